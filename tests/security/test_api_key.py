import json
import os
import re
import stat

import psutil
import pytest
import requests

from tests.security.conftest import Talker

KEY, NEXT, OTHER = (
    "first-key-of-the-file-0123456789",
    "second-key-of-the-file-012345678",
    "a-key-of-the-environment-0123456",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"# of this month\n{KEY}\n\n# of the next\n{NEXT}\n")
    return file


@pytest.fixture(scope="module")
def talker(own_machine, talker_spec, keys):
    return Talker(own_machine, talker_spec, "--api-key-file", keys)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {NEXT}"},
        {"x_api_key": KEY},
        {"authorization": requests.auth._basic_auth_str("anyone", KEY)},
    ],
)
def test_a_key_of_the_file_opens_the_api_and_the_predictor_does_not_see_it(talker, headers):
    answer = talker.ask(**headers)
    assert answer.status_code == 200
    assert KEY not in answer.text
    assert NEXT not in answer.text
    assert "authorization" not in answer.json()["headers"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"authorization": "Basic !!!"},
        {"x_api_key": ""},
        {"x_api_key": KEY[:-1]},
    ],
)
def test_without_one_there_is_a_401_that_says_how(talker, headers):
    answer = talker.ask(**headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    assert "Authorization: Bearer KEY" in answer.json()["error"]


def test_probes_need_no_key_and_all_else_does(talker):
    statuses = {
        path: requests.get(talker.endpoint + path, timeout=30).status_code
        for path in ("/healthz", "/", "/metrics", "/nothing", "//healthz", "/healthz/")
    }
    assert statuses.pop("/healthz") == 200
    assert set(statuses.values()) == {401}
    assert requests.post(f"{talker.endpoint}/healthz", timeout=30).status_code == 401


def test_a_request_without_one_is_counted(talker):
    def refused():
        headers = {"authorization": f"Bearer {KEY}"}
        metrics = requests.get(f"{talker.endpoint}/metrics", headers=headers, timeout=30).text
        counts = re.findall(r'^visionserve_requests_total{.*code="401".*} (\S+)$', metrics, re.MULTILINE)
        return float(counts[0]) if counts else 0.0

    before = refused()
    talker.ask()
    requests.get(f"{talker.endpoint}/nothing", timeout=30)
    assert refused() == before + 2


def test_the_key_is_kept_nowhere(talker, own_machine):
    talker.ask("print", "something", authorization=f"Bearer {KEY}")
    outputs = [own_machine.cortex(*command.split()).stdout for command in ("get -o json", "get small")]
    assert '-H "Authorization: Bearer $CORTEX_API_KEY"' in outputs[1]
    files = [path for path in own_machine.state.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"run.json", "deployment.json", "api.log"}
    for key in (KEY, NEXT):
        assert not [path for path in files if key.encode() in path.read_bytes()]
        assert not [output for output in outputs if key in output]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if "metrics" not in path.parts} == {0o600}


def test_an_api_with_keys_is_not_opened_by_leaving_them_out(talker, own_machine, keys):
    done = own_machine.cortex("deploy", talker.spec)
    assert done.returncode == 2
    assert "small is deployed with API keys: name their file with --api-key-file" in done.stderr
    assert talker.ask().status_code == 401
    body = talker.spec.parent / "body.json"
    body.write_text("{}")
    assert "401" in own_machine.cortex("predict", "small", body).stderr
    assert own_machine.cortex("predict", "small", body, "--api-key-file", keys).returncode == 0


def test_the_environment_gives_a_key_which_no_process_inherits_and_the_access_log_can_be_off(talker, own_machine):
    own_machine.environment["CORTEX_API_KEY"] = OTHER
    try:
        talker.deploy("--no-access-log")
        assert talker.ask(authorization=f"Bearer {KEY}").status_code == 401
        answer = talker.ask(authorization=f"Bearer {OTHER}")
        assert answer.json()["key"] is None
        assert answer.headers["x-request-id"] not in talker.log()
        processes = json.loads(own_machine.cortex("get", "-o", "json").stdout)[0]["processes"]
        for pid in processes.values():
            assert OTHER not in str(psutil.Process(pid).environ()) + str(psutil.Process(pid).cmdline())
        body = talker.spec.parent / "body.json"
        body.write_text("{}")
        assert own_machine.cortex("predict", "small", body).returncode == 0
    finally:
        del own_machine.environment["CORTEX_API_KEY"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no key: write one on each line"),
        (f"{KEY}\ntoo-short", "Key 2 of "),
    ],
)
def test_a_file_of_no_use_is_wrong_usage_and_its_keys_are_not_shown(own_machine, talker_spec, tmp_path, text, sentence):
    (tmp_path / "keys").write_text(text)
    done = own_machine.cortex("deploy", talker_spec, "--api-key-file", tmp_path / "keys")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not text or text.splitlines()[-1] not in done.stderr


def test_a_missing_file_is_named(own_machine, talker_spec, tmp_path):
    done = own_machine.cortex("deploy", talker_spec, "--api-key-file", tmp_path / "none")
    assert done.returncode == 2
    assert f"--api-key-file {tmp_path / 'none'} cannot be read: {os.strerror(2)}." in done.stderr


def test_a_file_too_large_to_be_one_of_keys_is_refused_whole(own_machine, talker_spec, tmp_path):
    file = tmp_path / "keys.txt"
    # Cut off at 64 KiB, the file would end amid a key that is long enough.
    file.write_text("\n".join(["#" * 65_499, KEY * 2, ""]))
    refused = own_machine.cortex("deploy", talker_spec, "--api-key-file", file)
    assert refused.returncode == 2
    assert f"{file} has over 64 KiB" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
