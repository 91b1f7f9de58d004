import base64
import time
from collections.abc import Callable

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import REPOSITORY, DeployedApi, post, wait_for
from tests.cortex.promql import alert_queries, dashboard_queries, labels_in, metrics_in
from tests.photos import encoded, photographs

pytestmark = pytest.mark.slow

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "visionserve.json"
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"


PHOTO = base64.b64encode(encoded(photographs()["chelsea"], ".jpg")).decode()


class Figures:
    """One reading of GET /metrics."""

    def __init__(self, endpoint: str) -> None:
        answer = requests.get(f"{endpoint}/metrics", timeout=30)
        assert answer.headers["content-type"].startswith("text/plain; version=")
        self.families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        wanted = [sample for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()]
        return sum(sample.value for sample in wanted)


def figures_once(endpoint: str, condition: Callable[[Figures], bool]) -> Figures:
    """The first reading of which that is true: what is counted may be so after the answer is there."""
    deadline = time.monotonic() + 60
    while not condition(figures := Figures(endpoint)):
        assert time.monotonic() < deadline, figures.samples
        time.sleep(0.1)
    return figures


@pytest.fixture(scope="module")
def endpoint(null_api: DeployedApi) -> str:
    """After requests of each kind."""
    endpoint = null_api.endpoint
    assert post(endpoint, json={"imgs": [PHOTO] * 3}).status_code == 200
    assert post(endpoint, json={"img": PHOTO}).status_code == 200
    assert post(endpoint, json={}).status_code == 400
    for counted, count in (("request_seconds", 3), ("engine_seconds", 2)):
        wait_for(lambda name=f"visionserve_{counted}_count", count=count: Figures(endpoint).value(name) >= count)
    return endpoint


def test_names_types_and_units_are_as_prometheus_wants_them(endpoint: str):
    figures = Figures(endpoint)
    types = {name: family.type for name, family in figures.families.items()}
    assert types == {
        "visionserve_requests": "counter",
        "visionserve_requests_rejected": "counter",
        "visionserve_request_seconds": "histogram",
        "visionserve_requests_in_flight": "gauge",
        "visionserve_queue_depth": "gauge",
        "visionserve_queue_seconds": "histogram",
        "visionserve_batch_size": "histogram",
        "visionserve_engine_seconds": "histogram",
        "visionserve_process_restarts": "counter",
        "visionserve_process_start_time_seconds": "gauge",
        "visionserve_model_server_up": "gauge",
        "visionserve_build_info": "gauge",
    }
    assert all(family.documentation for family in figures.families.values())
    for sample in figures.samples:
        if sample.name.endswith("_bucket") and sample.labels["le"] == "+Inf":
            others = {name: value for name, value in sample.labels.items() if name != "le"}
            assert sample.value == figures.value(sample.name.replace("_bucket", "_count"), **others)


def test_requests_batches_and_engine_time_are_counted(endpoint: str):
    before = Figures(endpoint)
    post(endpoint, json={"imgs": [PHOTO] * 3})
    post(endpoint, json={"img": "no picture"})

    # What each process counts last.
    last = {"visionserve_request_seconds_count": 2, "visionserve_engine_seconds_count": 1}

    def all_is_counted(figures: Figures) -> bool:
        return all(figures.value(name) >= before.value(name) + more for name, more in last.items())

    after = figures_once(endpoint, all_is_counted)

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert grown("visionserve_requests_total", code="200") == 1
    assert grown("visionserve_requests_total", code="400") == 1
    assert grown("visionserve_request_seconds_count") == 2
    assert grown("visionserve_batch_size_sum") == 3
    assert grown("visionserve_batch_size_count") == 1
    assert grown("visionserve_batch_size_bucket", le="2.0") == 0
    assert grown("visionserve_batch_size_bucket", le="4.0") == 1
    assert grown("visionserve_queue_seconds_count") == 1
    assert 0 < grown("visionserve_engine_seconds_sum") <= grown("visionserve_request_seconds_sum")
    assert after.value("visionserve_requests_in_flight") == 0
    assert after.value("visionserve_queue_depth") == 0


def test_what_runs_is_told(endpoint: str):
    figures = figures_once(endpoint, lambda figures: figures.value("visionserve_model_server_up") == 1)
    assert figures.value("visionserve_build_info", engine="null", api="image-classifier-resnet50") == 1
    started = figures.value("visionserve_process_start_time_seconds", process="model server")
    assert psutil.boot_time() < started


@pytest.mark.parametrize("query", [*dashboard_queries(DASHBOARD), *alert_queries(ALERTS)])
def test_dashboard_and_alerts_ask_for_what_there_is(endpoint: str, query: str):
    samples = Figures(endpoint).samples
    names = metrics_in(query)
    for name in names:
        assert name in {sample.name for sample in samples}
    labels = {label for sample in samples if sample.name in names for label in sample.labels}
    assert labels_in(query) <= labels


@pytest.mark.parametrize("content", [b"", b"no metrics" * 1000, bytes(1 << 16), b"\xff" * 4096])
def test_a_damaged_file_of_metrics_hides_nothing_else(null_api: DeployedApi, endpoint: str, content: bytes):
    before = Figures(endpoint)
    file = null_api.machine.state / "visionserve" / "apis" / null_api.name / "metrics" / "counter_5000000.db"
    file.write_bytes(content)
    try:
        after = Figures(endpoint)
        assert after.value("visionserve_requests_total") == before.value("visionserve_requests_total")
        assert null_api.row()["requests"]["2xx"] == before.value("visionserve_requests_total", code="200")
    finally:
        file.unlink()


def test_killed_processes_leave_their_counts_and_no_files(null_api: DeployedApi, endpoint: str):
    api = null_api
    folder = api.machine.state / "visionserve" / "apis" / api.name / "metrics"
    before, files = Figures(endpoint), len(list(folder.iterdir()))
    processes = api.row()["processes"]
    killed = {name: psutil.Process(processes[name]) for name in ("worker 0", "model server")}
    supervisor = killed["worker 0"].parent()
    # It would kill one that hangs, and soon there would be another.
    supervisor.suspend()
    try:
        killed["model server"].suspend()
        wait_for(lambda: Figures(endpoint).value("visionserve_model_server_up") == 0)
        for process in killed.values():
            process.kill()
    finally:
        supervisor.resume()
    # The log and not the figures: who reads those may keep the supervisor from summing up those of the ended.
    wait_for(lambda: all(f"{name} is back" in api.log() for name in killed))
    after = figures_once(endpoint, lambda figures: figures.value("visionserve_model_server_up") == 1)
    restarts = {
        name: after.value("visionserve_process_restarts_total", process=name)
        - before.value("visionserve_process_restarts_total", process=name)
        for name in processes
    }
    assert restarts == {"worker 0": 1, "model server": 1, "worker 1": 0}
    assert requests.get(f"{endpoint}/healthz", timeout=60).status_code == 200
    for counted in ("requests_total", "request_seconds_sum", "batch_size_sum", "engine_seconds_count"):
        assert after.value(f"visionserve_{counted}") == pytest.approx(before.value(f"visionserve_{counted}"))
    # The sums of the ended are two files, one of counters and one of histograms.
    assert len(list(folder.iterdir())) <= files + 2


def test_an_update_counts_on(null_api: DeployedApi, endpoint: str):
    before, row = Figures(endpoint), null_api.row()
    null_api.machine.deploy(row["spec"], "--engine", "null", "--force")
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in row["processes"].values()))
    after = figures_once(endpoint, lambda figures: figures.value("visionserve_model_server_up") == 1)
    assert after.value("visionserve_requests_total") == before.value("visionserve_requests_total")
    assert after.value("visionserve_process_restarts_total") == before.value("visionserve_process_restarts_total")
    assert after.value("visionserve_build_info") == 1
