"""What the manifests tell a cluster to run, run here: the container's command as a process, the Serve config on Ray."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY, Machine, free_port, run, wait_for
from tests.cortex.manifests.exporting import Exported, export, mounted
from tests.hosts import WITH_PARENT
from tests.projects import repository_spec
from tests.ray_cluster import started_cluster

pytestmark = pytest.mark.slow
SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
START_SECONDS = 120


@pytest.fixture(scope="module")
def spec(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's classifier, for one core of this machine."""
    fields = {"predictor": {"processes_per_replica": 1, "threads_per_process": 2}, "compute": {"cpu": 1, "mem": "1G"}}
    fields["predictor"]["env"] = {"LEVEL": "3"}
    return repository_spec(tmp_path_factory.mktemp("project"), REPOSITORY, Path("models/resnet50"), **fields)


def in_this_machine(text: str, project: Path) -> str:
    """Paths of a container as they are here."""
    assert "/srv/project" in text
    return text.replace("/srv/project", str(project)).replace("/mnt/models", str(REPOSITORY / "models"))


def laid_out(exported: Exported, volume: dict[str, object], folder: Path) -> Path:
    config_map = exported.one("ConfigMap")
    for key, text in config_map["data"].items():
        config_map["data"][key] = text.replace("/mnt/models", str(REPOSITORY / "models"))
    folder.mkdir()
    return mounted(config_map, volume, folder)


@pytest.fixture
def container(spec: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of the InferenceService's container, and its address."""
    exported = export(spec, "kserve", "--models-in-image")
    [volume] = [volume for volume in exported.predictor["volumes"] if volume["name"] == "project"]
    project = laid_out(exported, volume, tmp_path / "srv")
    port = free_port()
    [given] = exported.container["ports"]
    places = {str(given["containerPort"]): str(port), "0.0.0.0": "127.0.0.1"}
    words = [
        places.get(word, in_this_machine(word, project) if "/" in word else word)
        for word in exported.container["command"]
    ]
    machine = Machine(tmp_path / "home")
    variables = {each["name"]: each["value"] for each in exported.container["env"]}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*WITH_PARENT, sys.executable, "-m", "visionserve.cortex.cli", *words[1:]],
            cwd=tmp_path,
            env={**machine.environment, **variables, "PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        machine.clean()


def is_healthy(endpoint: str) -> bool:
    try:
        return requests.get(f"{endpoint}/healthz", timeout=5).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def test_the_container_of_kserve_serves_the_model_and_ends_in_order(
    container: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, endpoint = container
    wait_for(lambda: is_healthy(endpoint) or process.poll() is not None, START_SECONDS)
    assert process.poll() is None, (tmp_path / "log").read_text()
    assert requests.post(endpoint, json=SAMPLE, timeout=60).json()[0] == "Egyptian_cat"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not is_healthy(endpoint)


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    for cluster in started_cluster(nodes=1, cpus=2, separate=False):
        yield cluster.address


def test_the_serve_config_of_a_ray_service_serves_the_model(spec: Path, ray_address: str, tmp_path: Path) -> None:
    exported = export(spec, "rayservice", "--models-in-image")
    service = exported.one("RayService")["spec"]
    [group] = service["rayClusterConfig"]["workerGroupSpecs"]
    [volume] = group["template"]["spec"]["volumes"]
    project = laid_out(exported, volume, tmp_path / "srv")
    port = free_port()
    text = in_this_machine(service["serveConfigV2"], project).replace("port: 8000", f"port: {port}")
    config = tmp_path / "serve.yaml"
    config.write_text(text.replace("host: 0.0.0.0", "host: 127.0.0.1"))
    serve = Path(sys.executable).with_name("serve")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    done = run(
        [str(serve), "run", "--non-blocking", "--address", ray_address, str(config)], cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    endpoint = f"http://127.0.0.1:{port}/image-classifier-resnet50"
    wait_for(lambda: is_healthy(endpoint), START_SECONDS)
    assert requests.post(endpoint, json=SAMPLE, timeout=60).json()[0] == "Egyptian_cat"
