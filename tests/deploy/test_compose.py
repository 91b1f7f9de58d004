import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port, run, wait_for
from tests.deploy.compose import normalized, problems
from tests.deploy.dockerfiles import read_dockerfile
from tests.deploy.test_dockerfiles import REST
from tests.photos import encoded, photographs
from tests.services.rest.rest_services import RestService, rest_service

FILE = "docker-compose.yml"
TENSORFLOW_SERVING = "docker-compose.tensorflow-serving.yml"


@pytest.fixture
def deploy(checkout: Path) -> Path:
    return checkout / "deploy"


@pytest.mark.parametrize("names", [(FILE,), (FILE, TENSORFLOW_SERVING)])
def test_the_compose_files_are_right_in_all_that_can_be_told_without_starting_them(
    deploy: Path, names: tuple[str, ...]
) -> None:
    assert problems(REST, *(deploy / name for name in names)) == []


# What is put in place of what, and what is then said: of the classifier, or where both share it, of both services.
CLASSIFIER_BREAKS = [
    ("dockerfile: deploy/rest/", "dockerfile: rest/", "no Dockerfile rest/Dockerfile"),
    ("{model-server: {condition", "{server: {condition", "no service server"),
    ("REST_CONFIG:", "REST_MODELS:", "nothing reads REST_MODELS"),
    ("127.0.0.1:5000}", "5000}", "5000:5000 is open to other machines"),
]
SHARED_BREAKS = [
    ("interval:", "every:", "no health check"),
    ("limits: {cpus", "reservations: {cpus", "no limits"),
    ("../models}", "../model}", "nothing makes ../model"),
    (":ro", ":rw", "../model is mounted to be written to"),
    ('"10001:10001"', '"0"', "runs as root"),
    ("read_only: true", "read_only: false", "read_only is not True"),
    ("cap_drop: [ALL]", "cap_drop: [MKNOD]", "cap_drop is not ['ALL']"),
    ("restart: unless-stopped", 'restart: ""', "no restart"),
]


def test_what_is_broken_in_a_compose_file_is_told(deploy: Path) -> None:
    text = (deploy / FILE).read_text()
    for whole, broken, _ in CLASSIFIER_BREAKS + SHARED_BREAKS:
        assert whole in text
        text = text.replace(whole, broken)
    (deploy / "broken.yml").write_text(text)
    expected = {f"classifier: {said}" for _, _, said in CLASSIFIER_BREAKS + SHARED_BREAKS}
    expected |= {f"model-server: {said}" for _, _, said in SHARED_BREAKS}
    found = set(problems(REST, deploy / "broken.yml"))
    assert {problem for problem in found if problem.startswith(("classifier: ", "model-server: "))} == expected
    assert "'every' does not match any of the regexes: '^x-'" in found


@pytest.mark.parametrize(
    ("whole", "broken", "said"),
    [
        ("networks: [inside]", "networks: [behind]", "missing networks: behind"),
        ("  classifier:", " classifier:", "expected <block end>"),
    ],
)
def test_podman_compose_refuses_what_does_not_hold_together(deploy: Path, whole: str, broken: str, said: str) -> None:
    text = (deploy / FILE).read_text()
    assert whole in text
    (deploy / "broken.yml").write_text(text.replace(whole, broken))
    with pytest.raises(ValueError, match=said):
        normalized(deploy / "broken.yml")


def test_settings_come_from_the_environment_and_from_env(deploy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(deploy, tmp_path / "deploy")
    (folder / ".env").write_text("PUBLISH=127.0.0.1:8080\nMODELS=/models\n")
    services = normalized(folder / FILE, MODEL_SERVER_MEMORY="2g")["services"]
    assert services["classifier"]["ports"] == ["127.0.0.1:8080:5000"]
    assert services["classifier"]["volumes"] == services["model-server"]["volumes"] == ["/models:/srv/models:ro"]
    assert services["model-server"]["deploy"]["resources"]["limits"]["memory"] == "2g"


def test_the_example_of_env_names_every_variable_and_what_it_is_without_it(deploy: Path) -> None:
    compose = (deploy / FILE).read_text()
    variables = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", compose))
    passed_on = set(re.findall(r"^ +(REST_\w+):$", compose, re.MULTILINE))
    example = dict(re.findall(r"^#(\w+)=(.*)$", (deploy / ".env.example").read_text(), re.MULTILINE))
    assert set(example) == set(variables) | passed_on
    assert {name: example[name] for name in variables} == variables


def test_only_the_classifier_is_published_and_reaches_the_model_server(deploy: Path) -> None:
    document = normalized(deploy / FILE)
    assert [name for name, service in document["services"].items() if "ports" in service] == ["classifier"]
    assert document["services"]["model-server"]["networks"] == ["inside"]
    assert document["networks"]["inside"] == {"internal": True}


class Pair:
    """The two services as the compose file and the Dockerfiles start them, as processes on ports of this machine."""

    def __init__(self, deploy: Path, folder: Path, model: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8500", "8501")}
        self.services = normalized(deploy / FILE)["services"]
        self.tensorflow_serving = normalized(deploy / FILE, deploy / TENSORFLOW_SERVING)["services"]["model-server"]
        commands = [
            each.value for each in read_dockerfile(deploy / "model-server" / "Dockerfile") if each.name == "CMD"
        ]
        (folder / "models").mkdir()
        (folder / "models" / "resnet50").symlink_to(model)
        # The last of an option that is given twice counts.
        here = ["--host", "127.0.0.1", "--port", self.ports["8500"], "--rest-port", self.ports["8501"]]
        self.model_server = subprocess.Popen(
            [sys.executable, "-m", "visionserve.cli", *json.loads(commands[0])[1:], *here], cwd=folder
        )

    def healthy(self, service: dict[str, dict[str, str]], port: str = "") -> bool:
        test = service["healthcheck"]["test"]
        for inside, outside in {**self.ports, "5000": port}.items():
            test = test.replace(inside, outside)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return run(["sh", "-c", test], env={**os.environ, "PATH": path}).returncode == 0

    def classifier_environment(self) -> dict[str, str]:
        values = {name: value for name, value in self.services["classifier"]["environment"].items() if value}
        address = values["REST_TENSORFLOW_SERVING"].replace("model-server:8500", f"127.0.0.1:{self.ports['8500']}")
        return {**values, "REST_HOST": "127.0.0.1", "REST_TENSORFLOW_SERVING": address}


@pytest.fixture(scope="module")
def pair(checkout: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(checkout / "deploy", tmp_path_factory.mktemp("pair"), model)
    with pair.model_server as process:
        try:
            yield pair
        finally:
            process.kill()


def test_the_two_services_answer_together_and_their_health_checks_tell(pair: Pair) -> None:
    server, classifier = pair.services["model-server"], pair.services["classifier"]
    wait_for(lambda: pair.healthy(server), 180)
    assert pair.healthy(pair.tensorflow_serving)

    with rest_service(pair.folder, **pair.classifier_environment()) as service:
        port = service.url.rpartition(":")[2]
        wait_for(lambda: pair.healthy(classifier, port))
        assert service.classify(encoded(photographs()["chelsea"], ".jpg")).json() == {"classes": 286}
        _stop_model_server(pair, service)
        assert not pair.healthy(classifier, port)
    assert not pair.healthy(server)
    assert not pair.healthy(pair.tensorflow_serving)


def _stop_model_server(pair: Pair, service: RestService) -> None:
    pair.model_server.terminate()
    assert pair.model_server.wait(60) == 0
    wait_for(lambda: not service.healthy())
