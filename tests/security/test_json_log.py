import json

import pytest

from tests.security.conftest import Talker
from tests.security.test_access_log import FORGED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def talker(own_machine, talker_spec):
    return Talker(own_machine, talker_spec, "--log-format", "json")


def test_an_access_line_is_an_object(talker):
    talker.ask(x_request_id='quoted "1"')
    (record,) = [record for record in talker.records("quoted") if record["message"] == "access"]
    assert record.pop("time")
    assert record.pop("client").startswith("127.0.0.1:")
    assert record.pop("duration_ms") >= 0
    assert record.pop("bytes_in")
    assert record.pop("bytes_out")
    assert record == {
        "process": "worker 0",
        "level": "INFO",
        "message": "access",
        "request_id": 'quoted "1"',
        "method": "POST",
        "path": "/",
        "status": 200,
        "in_flight": 0,
    }


def test_a_trace_is_one_object_with_the_request_s_id(talker):
    talker.ask("fail", FORGED, x_request_id="failing-2")
    (record,) = [record for record in talker.records("failing-2", 2) if record["message"] != "access"]
    assert (record["level"], record["message"]) == ("ERROR", "the predictor failed")
    assert record["trace"].startswith("Traceback")
    assert FORGED in record["trace"]


def test_what_is_printed_and_what_the_supervisor_says_is_an_object_too(talker):
    talker.ask("print", '{"level": "ERROR"}')
    (record,) = talker.records('{\\"level')
    assert (record["process"], record["level"], record["message"]) == ("worker 0", "INFO", '{"level": "ERROR"}')
    talker.ask("print", "\x1e[1]")
    assert [record["message"] for record in talker.records("[1]")] == ["\x1e[1]"]
    said = talker.deploy("--log-format", "json", "--host", "0.0.0.0")
    assert "note: Whoever reaches 0.0.0.0 can ask small: --api-key-file keeps strangers out." in said
    assert [record["process"] for record in talker.records("ended")] == ["supervisor"]


def test_every_line_of_the_file_is_an_object(talker):
    records = [json.loads(line) for line in talker.log().splitlines()]
    assert all({"time", "process", "level", "message"} <= record.keys() for record in records)
