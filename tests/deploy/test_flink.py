import re
from pathlib import Path

import pytest

from tests.deploy.compose import normalized, problems
from tests.deploy.dockerfiles import read_dockerfile

MOUNTS = {"../../verification/images": "ro", "results": "rw", "checkpoints": "rw"}
SETTINGS = {"FLINK_LOG_DIR"}


@pytest.fixture
def compose_file(checkout: Path) -> Path:
    return checkout / "deploy" / "flink" / "docker-compose.yml"


def test_the_compose_file_is_right_in_all_that_can_be_told_without_starting_it(compose_file: Path) -> None:
    assert problems(SETTINGS, compose_file, mounts=MOUNTS) == []


@pytest.mark.parametrize(
    ("whole", "broken", "said"),
    [
        ("/srv/models:ro", "/srv/models", "job-manager: ../../models is mounted to be written to"),
        ("verification/images}", "pictures}", "task-manager: nothing makes ../../pictures"),
        ("127.0.0.1:8081}", "8081}", "job-manager: 8081:8081 is open to other machines"),
        ("FLINK_LOG_DIR:", "LOG_DIR:", "task-manager: nothing reads LOG_DIR"),
        ("deploy/flink/Dockerfile", "Dockerfile", "task-manager: no Dockerfile Dockerfile"),
        ("replicas: ${TASK_MANAGERS:-3}", "replica: 3", "'replica' does not match any of the regexes: '^x-'"),
    ],
)
def test_what_is_broken_in_it_is_told(compose_file: Path, whole: str, broken: str, said: str) -> None:
    text = compose_file.read_text()
    assert whole in text
    file = compose_file.with_name("broken.yml")
    file.write_text(text.replace(whole, broken))
    assert any(said in problem for problem in problems(SETTINGS, file, mounts=MOUNTS))


def test_the_model_is_mounted_only_where_the_client_runs(compose_file: Path) -> None:
    services = normalized(compose_file)["services"]
    assert [name for name in services if "/srv/models" in str(services[name]["volumes"])] == ["job-manager"]


def test_the_image_runs_the_flink_that_its_python_speaks_to(checkout: Path) -> None:
    pinned = re.search(r"^apache-flink==(\S+)", (checkout / "requirements" / "stream.txt").read_text(), re.MULTILINE)
    assert pinned
    bases = [each.value for each in read_dockerfile(checkout / "deploy/flink/Dockerfile") if each.name == "FROM"]
    assert bases[0].startswith(f"flink:{pinned[1]}-")
