import os
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.conftest import free_port
from tests.services.rest.rest_services import started
from visionserve.cli import main

ELSEWHERE = ("--tensorflow-serving", "127.0.0.1:1")


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """Exit code and sentence of a command that must not start; were it to go on, it would find its port in use."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REST_")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        def refusal(*options, **variables):
            done = CliRunner().invoke(main, ["rest", *options], env={"REST_PORT": port, **variables})
            assert done.stdout == ""
            return done.exit_code, done.stderr.strip().replace(port, "PORT")

        yield refusal


@pytest.mark.parametrize("source", ["option", "environment", ".env"])
@pytest.mark.slow
def test_options_win_over_the_environment_and_that_over_the_file_env(tmp_path, source):
    ports = {"option": free_port(), "environment": free_port(), ".env": free_port()}
    (tmp_path / ".env").write_text(
        f"OTHER=1\nREST_PORT={ports['.env']}\nREST_TENSORFLOW_SERVING=127.0.0.1:1\nREST_CONFIG=models.yaml\n"
    )
    (tmp_path / "models.yaml").write_text("models: {cats: {model: felines}}")
    options = ["--port", ports["option"]] if source == "option" else []
    variables = {} if source == ".env" else {"REST_PORT": str(ports["environment"]), "REST_ENGINE": ""}
    with started(tmp_path, *options, **variables) as process:
        assert process.stdout.readline() == (
            f"classifying at http://127.0.0.1:{ports[source]}/classify/ (cats) with TensorFlow Serving at 127.0.0.1:1\n"
        )
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "variables", "sentence"),
    [
        ([], {"REST_PORT": "abc"}, "Error: REST_PORT=abc: Input should be a valid integer"),
        ([], {"REST_PORT": "0"}, "Error: REST_PORT=0: Input should be greater than or equal to 1."),
        ([], {"REST_ENGINE": "gpu"}, "Error: REST_ENGINE=gpu: Input should be 'auto', 'tensorflow', 'openvino' or "),
        (["--tensorflow-serving", "nonsense"], {}, "Error: --tensorflow-serving (or REST_TENSORFLOW_SERVING) 'nonse"),
        ([*ELSEWHERE, "--engine", "openvino"], {}, "Error: --engine (or REST_ENGINE) openvino is for a model server "),
        ([], {}, "Error: Route resnet: there is no folder models/resnet50: make it with visionserve export cpu, or "),
        (["--config", "no.yaml"], {}, "Error: no.yaml cannot be read: No such file or directory."),
    ],
)
def test_a_wrong_setting_is_told_with_its_name_and_ends_in_2(refusal, options, variables, sentence):
    code, said = refusal(*options, **variables)
    assert (code, said[: len(sentence)]) == (2, sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models: {", "models.yaml is not YAML: "),
        ("", "models.yaml: the file: None: Input should be a valid dictionary"),
        ("models: {}", "models.yaml: models: {}: Dictionary should have at least 1 item"),
        ("model: {}", "models.yaml: models: Field required"),
        ("models: {a/b: {model: x}}", "models.yaml: models.a/b: 'a/b': String should match pattern '"),
        ("models: {a: {pth: x}}", "models.yaml: models.a.pth: there is no such field: allowed are path, model, labels"),
        ("models: {a: {model: x y}}", "models.yaml: models.a.model: 'x y': String should match pattern '"),
        ("models: {a: {}}", "models.yaml: models.a names no model: give it a path, or the model of a TensorFlow Ser"),
        ("models: {a: {model: x}, a: {model: y}}", "models.yaml is not YAML: 'a' is written twice in "),
        (
            "models: {a: {path: one/m}, b: {path: two/m}}",
            "models.yaml: models.b: another route has a model m in the folder one/m: give one of them its own name",
        ),
        ("models: {a: {model: x, labels: no.json}}", "models.yaml: models.a: classes: no.json cannot be read as JSON:"),
        ("models: {a: {model: x}, b: {model: y}}", "--tensorflow-serving names the model z, but there are 2 routes"),
    ],
)
def test_a_wrong_file_of_models_is_told_with_its_field_and_ends_in_2(refusal, tmp_path, text, sentence):
    (tmp_path / "models.yaml").write_text(text)
    code, said = refusal("--config", "models.yaml", "--tensorflow-serving", "127.0.0.1:1/z")
    assert (code, said[: len(sentence) + 7]) == (2, f"Error: {sentence}")


def test_a_port_in_use_is_told_before_any_model_is_loaded(refusal):
    code, said = refusal(*ELSEWHERE)
    assert (code, said) == (
        1,
        "Error: Cannot listen on 127.0.0.1:PORT: Address already in use; choose another port or host.",
    )


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install_and_still_shows_its_help():
    without = "import sys; sys.modules['fastapi'] = None; from visionserve.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", without, "rest"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        3,
        "Error: fastapi is not installed: run scripts/setup rest in visionserve's folder.\n",
    )
    done = subprocess.run(
        [sys.executable, "-c", without, "rest", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "REST_PORT" in done.stdout) == (0, True)
