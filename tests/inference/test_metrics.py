from collections.abc import Iterator
from pathlib import Path

import ovmsclient
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.conftest import wait_for
from tests.cortex.otlp import Collector
from tests.inference.model_servers import ModelServer, ask, model_server
from tests.inference.repositories import add_version
from tests.photos import encoded, photographs
from visionserve.vision.pixels import to_input

pytestmark = pytest.mark.slow

CAT = to_input(encoded(photographs()["chelsea"]))
GRPC = "tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder: Path = add_version(tmp_path_factory.mktemp("resnet50"), 1).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("OTEL_SERVICE_NAME", "classifiers")
        with model_server("--model", f"resnet50={folder}", "--engine", "null") as server:
            yield server


def test_metrics_are_where_tensorflow_serving_has_its_own(server: ModelServer):
    ask(server, {"instances": [CAT.tolist()] * 2})

    def samples() -> list[Sample]:
        text = requests.get(server.url("/monitoring/prometheus/metrics"), timeout=60).text
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def values() -> dict[str, float]:
        return {sample.name: sample.value for sample in samples() if sample.labels.get("model") == "resnet50"}

    # A batch is counted when its answers are on their way already.
    wait_for(lambda: values()["visionserve_engine_seconds_count"] == 1)
    assert values()["visionserve_batch_size_sum"] == 2
    assert values()["visionserve_queue_depth"] == 0
    assert any(sample.name == "process_resident_memory_bytes" and sample.value > 1e7 for sample in samples())


def test_what_is_asked_over_grpc_is_traced_until_the_end(server: ModelServer, collector: Collector):
    """The last one of this file: what is in the buffer is sent as the server ends."""
    ovmsclient.make_grpc_client(server.grpc).predict({"input": CAT[None]}, "resnet50", timeout=60)
    assert server.stop() == 0
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {GRPC, "queue", "engine"}
    assert {spans["queue"].parent, spans["engine"].parent} == {spans[GRPC].id}
    assert spans[GRPC].attributes["visionserve.model"] == "resnet50"
    assert {span.service for span in collector.spans} == {"classifiers"}
