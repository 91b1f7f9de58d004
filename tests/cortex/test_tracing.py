import itertools
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port, post, run, wait_for
from tests.cortex.otlp import Collector, Span
from tests.photos import encoded, photographs
from tests.projects import ECHO, repository_spec, write_project

pytestmark = pytest.mark.slow

PHOTO = encoded(photographs()["chelsea"], ".jpg")
GRPC = "tensorflow.serving.PredictionService/Predict"
STAGES = {"POST / (server)", "predict", "decode", f"{GRPC} (client)", f"{GRPC} (server)", "queue", "engine"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def endpoint(collector: Collector, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield deploy(machine, tmp_path_factory.mktemp("project"), model, collector, seconds=0.2).endpoint
    machine.clean()


def deploy(machine: Machine, project: Path, model: Path, collector: Collector, seconds: float) -> DeployedApi:
    """The classifier, whose processes send their spans every so many seconds."""
    machine.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.endpoint
    machine.environment["OTEL_BSP_SCHEDULE_DELAY"] = str(round(1000 * seconds))
    spec = repository_spec(project, REPOSITORY, model)
    return machine.deploy(spec, "--port", free_port(), "--engine", "openvino")


def traced(collector: Collector, endpoint: str, body: bytes, spans: int) -> tuple[dict[str, Span], str, int]:
    """The spans of one request, the caller's span id, and the status of the answer."""
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{caller}-01", "user-agent": "a test"}
    answer = post(endpoint, data=body, headers=headers)
    wait_for(lambda: len(collector.trace(trace)) >= spans)
    return collector.trace(trace), caller, answer.status_code


def test_a_request_is_one_trace_over_worker_and_model_server(collector: Collector, endpoint: str):
    spans, caller, _ = traced(collector, endpoint, PHOTO, len(STAGES))
    assert spans.keys() == STAGES
    parents = {
        "predict": "POST / (server)",
        "decode": "predict",
        f"{GRPC} (client)": "predict",
        f"{GRPC} (server)": f"{GRPC} (client)",
        "queue": f"{GRPC} (server)",
        "engine": f"{GRPC} (server)",
    }
    assert {name: spans[name].parent for name in parents} == {name: spans[of].id for name, of in parents.items()}
    assert spans["POST / (server)"].parent == caller
    request = spans["POST / (server)"].attributes
    assert request["http.request.method"] == "POST"
    assert request["http.response.status_code"] == 200
    assert request["user_agent.original"] == "a test"
    assert request["server.port"] == int(endpoint.rpartition(":")[2])
    assert spans["engine"].attributes["visionserve.batch.size"] == 1
    assert {spans[name].service for name in ("predict", "decode")} == {"image-classifier-resnet50"}
    assert {spans[name].service for name in ("queue", "engine")} == {"model-server"}
    assert not any(span.failed for span in spans.values())


def test_the_stages_of_a_request_follow_each_other(collector: Collector, endpoint: str):
    spans, _, _ = traced(collector, endpoint, PHOTO, len(STAGES))
    stages = [spans[name] for name in ("decode", "queue", "engine")]
    assert all(stage.began <= stage.ended for stage in stages)
    # Each process sets its monotonic clock against the time of day by itself.
    slack = 5_000_000
    assert all(first.ended <= second.began + slack for first, second in itertools.pairwise(stages))
    whole = spans["POST / (server)"]
    assert all(whole.began <= stage.began + slack and stage.ended <= whole.ended + slack for stage in stages)


def test_a_refused_request_is_traced_as_far_as_it_came_and_not_as_a_failure(collector: Collector, endpoint: str):
    spans, _, status = traced(collector, endpoint, b"no picture", 2)
    assert status == 400
    assert spans.keys() == {"POST / (server)", "predict"}
    assert spans["POST / (server)"].attributes["http.response.status_code"] == 400
    assert not spans["POST / (server)"].failed


def test_a_request_without_a_caller_or_with_nonsense_for_one_begins_a_trace(collector: Collector, endpoint: str):
    for headers in ({}, {"traceparent": "00-nonsense"}, {"traceparent": "x" * 5000, "tracestate": "y=" * 2000}):
        before = len(collector.spans)
        assert post(endpoint, data=PHOTO, headers=headers).status_code == 200
        wait_for(lambda before=before: len(collector.spans) >= before + len(STAGES))
        roots = [span for span in collector.spans[before:] if not span.parent]
        assert [root.name for root in roots] == ["POST /"]
        assert collector.trace(roots[0].trace).keys() == STAGES


def test_an_api_that_ends_sends_its_last_spans(collector: Collector, machine: Machine, model: Path, tmp_path: Path):
    api = deploy(machine, tmp_path / "project", model, collector, seconds=3600)
    trace = secrets.token_hex(16)
    post(api.endpoint, data=PHOTO, headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"})
    assert collector.trace(trace) == {}
    machine.cortex("delete", api.name)
    wait_for(lambda: collector.trace(trace).keys() >= STAGES)
    assert collector.trace(trace).keys() == STAGES


def test_variables_that_no_tracer_takes_are_named_and_not_the_predictor(machine: Machine, tmp_path: Path):
    machine.environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9999",
    }
    done = machine.cortex("deploy", write_project(tmp_path / "project", ECHO), "--port", free_port())
    assert done.returncode == 1
    assert "OTEL_ variables" in done.stderr
    assert "predictor.py" not in done.stderr


def test_a_collector_that_is_gone_costs_nobody_an_answer(collector: Collector, endpoint: str):
    collector.close()
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{collector.endpoint}/v1/traces", timeout=10)
    assert [post(endpoint, data=PHOTO).status_code for _ in range(20)] == [200] * 20


def test_without_the_variables_nothing_of_opentelemetry_is_loaded():
    program = """
import sys
import visionserve.cortex.app, visionserve.cortex.host, visionserve.inference.model_server
from visionserve import tracing
tracing.start("an API")
print([name for name in sys.modules if name.startswith("opentelemetry")], tracing.tracer())
"""
    assert run([sys.executable, "-c", program]).stdout == "[] None\n"
