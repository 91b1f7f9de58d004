import json

import numpy as np
import ovmsclient
import pytest
import requests
from click.testing import CliRunner

from tests.conftest import REPOSITORY, free_port, post, run, wait_for
from tests.inference.model_servers import COMMAND, model_server, read_answer, request_head
from tests.photos import encoded, photographs
from visionserve.cli import main
from visionserve.vision.pixels import to_input

CAT = to_input(encoded(photographs()["chelsea"]))
NULL = ("--engine", "null", "--threads", 1)


def test_it_serves_both_protocols_and_says_which_engine_auto_is(model):
    with model_server("--model", f"resnet50={model}", "--model", f"twin={model}") as server:
        assert server.line == f"serving resnet50, twin with openvino on {server.grpc} (gRPC) and {server.rest} (REST)\n"
        grpc = ovmsclient.make_grpc_client(server.grpc).predict({"input": CAT[None]}, "twin", timeout=60)
        rest = ovmsclient.make_http_client(server.rest).predict({"input": CAT[None]}, "resnet50", timeout=60)
        assert grpc.argmax() == rest.argmax() == 285


def test_models_come_from_a_tensorflow_serving_config_file(tmp_path):
    config = tmp_path / "models.config"
    config.write_text(
        """
        # as TensorFlow Serving's guide has it
        model_config_list: {
          config: { name: "first" base_path: "models/a" model_platform: "tensorflow" }
          config { name: 'second', base_path: 'models/b' }
        }
        """
    )
    with model_server("--model-config-file", config, *NULL) as server:
        assert server.line.startswith("serving first, second with null on ")
        assert requests.get(server.url("/v1/models/second"), timeout=60).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", ["3"]),
        ("model_version_policy { latest { num_versions: 2 } }", ["2", "3"]),
        ("model_version_policy { all {} }", ["1", "2", "3"]),
        ("model_version_policy { specific { versions: 1 versions: 3 } }", ["1", "3"]),
    ],
)
def test_version_policies_and_labels_of_the_config_file_hold(tmp_path, policy, served):
    for version in "123":
        add_version(tmp_path / "a", version)
    config = tmp_path / "models.config"
    labels = "version_labels { key: 'canary' value: 3 } version_labels { key: 'gone' value: 9 }"
    config.write_text(f"model_config_list {{ config {{ name: 'a' base_path: '{tmp_path}/a' {policy} {labels} }} }}")
    with model_server("--model-config-file", config, *NULL) as server:
        assert versions(server) == served
        assert versions(server, "/labels/canary") == ["3"]
        prediction = {"instances": [CAT.tolist()]}
        assert post(server.url("/v1/models/a/labels/canary:predict"), json=prediction).status_code == 200
        assert post(server.url("/v1/models/a/labels/gone:predict"), json=prediction).status_code == 404
        assert post(server.url("/v1/models/a/labels/other:predict"), json=prediction).status_code == 400


def test_a_new_version_is_served_without_a_restart(tmp_path):
    add_version(tmp_path, "1")
    with model_server("--model", f"a={tmp_path}", *NULL, "--poll", 0.05) as server:
        assert versions(server) == ["1"]
        add_version(tmp_path, "2")
        wait_for(lambda: ("2", "AVAILABLE") in states(server))


def add_version(folder, version):
    """The null engine reads no weights: a version for it is a folder with the name of a SavedModel's file in it."""
    (folder / version).mkdir(parents=True)
    (folder / version / "saved_model.pb").touch()


def states(server, which=""):
    answer = requests.get(server.url(f"/v1/models/a{which}"), timeout=60)
    return [(row["version"], row["state"]) for row in answer.json()["model_version_status"]]


def versions(server, which=""):
    return [version for version, state in states(server, which) if state == "AVAILABLE"]


@pytest.mark.slow
def test_without_rest_only_grpc_is_served_and_its_libraries_stay_out(tmp_path):
    loaded = {}
    for rest in (False, True):
        with model_server("--model", "a=.", *NULL, *(() if rest else ("--rest-port", 0))) as server:
            assert rest or server.line == f"serving a with null on {server.grpc}\n"
            assert ovmsclient.make_grpc_client(server.grpc).get_model_status("a", timeout=60)[1]["state"] == "AVAILABLE"
            loaded[rest] = _mapped(server.process.pid)
    assert "httptools" in loaded[True] - loaded[False]
    assert not any("tensorflow" in name for names in loaded.values() for name in names)


def _mapped(pid):
    """The packages whose compiled modules a process has loaded."""
    with open(f"/proc/{pid}/maps") as maps:
        paths = {line.split()[-1] for line in maps if "site-packages" in line}
    return {path.split("site-packages/")[1].split("/")[0] for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["grpc", "rest"])
def test_a_port_in_use_is_one_sentence(taken):
    with model_server("--model", "a=.", *NULL) as server:
        ports = {"grpc": free_port(), "rest": free_port(), taken: int(getattr(server, taken).split(":")[1])}
        options = ["--port", str(ports["grpc"]), "--rest-port", str(ports["rest"])]
        done = run([*COMMAND, "--model", "a=.", "--engine", "null", *options])
        assert done.returncode == 1
        assert done.stderr == (
            f"Error: Cannot listen on 127.0.0.1:{ports[taken]}: Address already in use; choose another port or host.\n"
        )
        assert requests.get(server.url("/v1/models/a"), timeout=60).status_code == 200


def test_a_request_in_flight_is_answered_before_it_ends(model):
    body = json.dumps({"instances": [CAT.tolist()]}).encode()
    with model_server("--model", f"resnet50={model}", "--engine", "openvino") as server, server.connect() as connection:
        connection.sendall(request_head("/v1/models/resnet50:predict", len(body), "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        server.process.terminate()
        connection.sendall(body)
        head, _, answer = read_answer(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert np.argmax(json.loads(answer)["predictions"]) == 285
        assert server.process.wait(60) == 0


def test_it_batches_as_it_is_told():
    with model_server("--model", "a=.", *NULL, "--max-batch-size", 2, "--batch-interval", 0.01) as server:
        answer = post(server.url("/v1/models/a:predict"), json={"instances": [CAT.tolist()] * 3})
        assert np.shape(answer.json()["predictions"]) == (3, 1000)


def test_help_has_an_example():
    done = run([*COMMAND, "--help"])
    assert done.returncode == 0
    assert "visionserve model-server --model resnet50=models/resnet50" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "either --model NAME=PATH, once or more, or --model-config-file FILE"),
        (["--model", "a=.", "--model-config-file", "pyproject.toml"], "either --model NAME=PATH"),
        (["--model", "models/resnet50"], "--model models/resnet50: say NAME=PATH"),
        (["--model", "a=.", "--model", "a=tests"], "Two models have the name a"),
        (["--model", "a=models/none"], "there is no folder models/none"),
        (["--model", "a=.", "--port", "8501"], "--port and --rest-port are both 8501"),
        (["--model", "a=.", "--engine", "onnx"], "'onnx' is not one of"),
        (["--model", "a=.", "--port", "70000"], "70000 is not in the range"),
        (["--model", "a=.", "--max-batch-size", "0"], "0 is not in the range"),
        (["--model", "a=.", "--batch-interval", "-1"], "-1.0 is not in the range"),
        (["--model", "a=.", "--poll", "-1"], "-1.0 is not in the range"),
        (["--model-config-file", "none.config"], "'none.config' does not exist"),
        (["--model-config-file", "pyproject.toml"], "pyproject.toml is not a ModelServerConfig in text form: 1:2 :"),
    ],
)
def test_wrong_options_are_one_sentence_and_exit_2(monkeypatch, options, sentence):
    monkeypatch.chdir(REPOSITORY)
    answer = CliRunner().invoke(main, ["model-server", *options])
    assert answer.exit_code == 2
    assert sentence in answer.output


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "names no model"),
        ("model_config_list { config { name: 'a' } }", "needs a name and a base_path, not only 'a'"),
        ("model_config_list { config { name: 'a' base_path: '.' model_platform: 'pytorch' } }", "'pytorch'"),
        (
            "model_config_list { config { name: 'a' base_path: '.' model_version_policy { specific {} } } }",
            "at least one",
        ),
        ("model_config_list { config { nam: 'a' } }", 'has no field named "nam".\n'),
    ],
)
def test_a_wrong_config_file_is_one_sentence(tmp_path, config, sentence):
    file = tmp_path / "models.config"
    file.write_text(config)
    answer = CliRunner().invoke(main, ["model-server", "--model-config-file", str(file)])
    assert answer.exit_code == 2
    assert sentence in answer.output


def test_a_folder_without_a_model_ends_it_with_one_sentence(tmp_path):
    done = run(
        [*COMMAND, "--model", f"a={tmp_path}", "--engine", "openvino", "--port", str(free_port()), "--rest-port", "0"]
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
