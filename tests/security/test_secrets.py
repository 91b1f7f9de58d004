import json
from pathlib import Path

import pytest
import requests

from tests.conftest import free_port
from tests.projects import write_project
from tests.security.talker import SOURCE
from visionserve.redaction import redacted

MARKER = "marked-secret-Xy7"
URL = f"https://anyone:{MARKER}1@elsewhere.example/model?X-Amz-Credential={MARKER}2&X-Amz-Signature={MARKER}3&part=1"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (URL, "https://***@elsewhere.example/model?X-Amz-Credential=***&X-Amz-Signature=***&part=1"),
        ("GET /?sig=abc&token=def HTTP/1.1", "GET /?sig=***&token=*** HTTP/1.1"),
        ("Authorization: Bearer abcdefgh.ijk-l", "Authorization: Bearer ***"),
        ("s3://bucket/a@b and me@here.example", "s3://bucket/a@b and me@here.example"),
        ("design=3&monkey=4", "design=3&monkey=4"),
    ],
)
def test_what_a_line_may_not_show(text, seen):
    assert redacted(text) == seen


@pytest.mark.slow
def test_a_session_with_failures_of_all_kinds_leaves_its_secrets_in_no_log_and_no_output(machine, tmp_path):
    said = []

    def cortex(*arguments: object) -> int:
        done = machine.cortex(*arguments)
        said.append(done.stdout + done.stderr)
        return done.returncode

    port = free_port()
    machine.environment |= {
        "AWS_ACCESS_KEY_ID": f"{MARKER}-aws-id",
        "AWS_SECRET_ACCESS_KEY": f"{MARKER}-aws-key",
        "AWS_ENDPOINT_URL": f"http://anyone:{MARKER}@127.0.0.1:{free_port()}",
        "AWS_MAX_ATTEMPTS": "1",
    }
    secret = {"TALKER_TOKEN": f"{MARKER}-env"}
    spec = write_project(tmp_path / "talker", SOURCE, predictor={"env": secret})
    failing = write_project(tmp_path / "failing", SOURCE, predictor={"env": secret, "config": {"fail": True}})
    wrong = write_project(tmp_path / "wrong", SOURCE, predictor={"env": {"TALKER_TOKEN": [f"{MARKER}-list"]}})
    wrong.write_text(wrong.read_text().replace(f"- {MARKER}-list", "123456789012"))
    predictor = {"type": "tensorflow", "path": "predictor.py", "model_path": "s3://bucket/model"}
    in_s3 = write_project(tmp_path / "s3", SOURCE, name="in-s3", predictor=predictor)
    assert cortex("deploy", failing, "--port", port) == 1
    assert "no access with ***" in said[-1]
    assert cortex("deploy", wrong) == 2
    assert cortex("deploy", in_s3) == 1
    assert "http://***@127.0.0.1" in said[-1]
    assert cortex("deploy", spec, "--port", port, "--log-format", "json") == 0
    url = f"http://127.0.0.1:{port}/?token={MARKER}-query&do="
    headers = {"authorization": f"Bearer {MARKER}-header"}
    for do in ("print", "log", "fail"):
        requests.post(url + do, json={"text": f"{URL} {MARKER}-env"}, headers=headers, timeout=30)
    cortex("get", "-o", "json")
    # What the predictor is given is in its run's settings, which are its user's alone, for as long as it runs.
    record = json.loads(next(machine.state.rglob("deployment.json")).read_text())
    settings = Path(record["control"]).parent / "run.json"
    assert MARKER in settings.read_text()
    assert settings.stat().st_mode & 0o777 == 0o600
    assert cortex("delete", "small") == 0
    assert not settings.exists()
    cortex("logs", "small")
    assert "the predictor failed" in said[-1]
    assert not [output for output in said if MARKER in output or "123456789012" in output]
    files = [path for path in machine.state.rglob("*") if path.is_file()]
    assert "api.log" in [path.name for path in files]
    assert not [path for path in files if MARKER.encode() in path.read_bytes()]
