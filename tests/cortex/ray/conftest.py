from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cortex.ray.ray_api import RayApi
from tests.ray_cluster import RayCluster, started_cluster

SLOW_FIXTURES = {"ray_node", "ray_cluster"}
# Quick to follow the load, for a cluster on one machine: one replica for each two requests in flight.
ONE_TO_THREE_REPLICAS = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_replica_concurrency": 2,
    "window": "10s",
    "upscale_stabilization_period": "0s",
    "downscale_stabilization_period": "0s",
    "max_upscale_factor": 10,
    "max_downscale_factor": 0.1,
}
CLUSTER_KIND = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
            if "ray_cluster" in item.fixturenames:
                item.add_marker(pytest.mark.alone)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if kind := terminalreporter.config.stash.get(CLUSTER_KIND, ""):
        terminalreporter.write_line(kind)


@pytest.fixture(scope="package")
def ray_node() -> Iterator[str]:
    """The address of a Ray cluster of one node with two CPUs, on 127.0.0.1."""
    for cluster in started_cluster(nodes=1, cpus=2, separate=False):
        yield cluster.address


@pytest.fixture(scope="package")
def ray_cluster(pytestconfig: pytest.Config) -> Iterator[RayCluster]:
    """Three nodes with two CPUs each; separate machines where the user may make network namespaces (root), else
    processes beside each other on 127.0.0.1."""
    for cluster in started_cluster(nodes=3, cpus=2, separate=True):
        kind = "machines in network namespaces" if cluster.separate else "processes on 127.0.0.1: no namespaces here"
        pytestconfig.stash[CLUSTER_KIND] = f"the three Ray nodes were {kind}"
        yield cluster


@pytest.fixture(scope="package")
def ray_api(ray_cluster: RayCluster, model: Path, tmp_path_factory: pytest.TempPathFactory) -> RayApi:
    """The CPU spec on the three nodes; it ends with them."""
    api = RayApi(ray_cluster, tmp_path_factory.mktemp("ray"), model, ONE_TO_THREE_REPLICAS)
    done = api.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    return api
