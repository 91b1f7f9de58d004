import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
# Each GET is an inference.
@pytest.mark.parametrize(("method", "examples"), [("GET", 20), ("POST", 150)])
def test_schemathesis_finds_no_server_error(s3_function, method, examples, mode):
    schema = schemathesis.openapi.from_url(f"{s3_function.url}/openapi.json", timeout=60)

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=schema["/"][method].as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate(checks=CHECKS, timeout=60)

    check()
    assert "Traceback" not in s3_function.log()


@pytest.mark.parametrize("path", ["/openapi.json", "/health/liveness", "/health/readiness"])
def test_the_other_paths_answer_as_the_document_says(s3_function, path):
    schema = schemathesis.openapi.from_url(f"{s3_function.url}/openapi.json", timeout=60)
    schema[path]["GET"].Case().call_and_validate(checks=CHECKS, timeout=60)
