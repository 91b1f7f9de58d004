import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.dockerfiles import problems, read_dockerfile
from tests.deploy.dockerignore import context_files
from visionserve.services.dcf.settings import PREFIX as DCF_PREFIX
from visionserve.services.dcf.settings import Settings as DcfSettings
from visionserve.services.function.settings import Settings as FunctionSettings
from visionserve.services.rest.settings import PREFIX as REST_PREFIX
from visionserve.services.rest.settings import Settings as RestSettings

REST = {REST_PREFIX + name.upper() for name in RestSettings.model_fields}
# The DCF watcher and protobuf read the rest.
DCF = {DCF_PREFIX + name.upper() for name in DcfSettings.model_fields} | {"HANDLER_DIR", "HANDLER_FILE", "HANDLER_NAME"}
DCF |= {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"}
FUNCTION = {name.upper() for name in FunctionSettings.model_fields} | {"PORT"}
# What each is built in, and the settings of what it runs.
IMAGES = {
    "deploy/rest": (".", REST),
    "deploy/model-server": (".", set()),
    "deploy/tensorflow-serving": (".", {"MODEL_BASE_PATH", "MODEL_NAME"}),
    "deploy/knative": ("deploy/knative", FUNCTION),
    "deploy/dcf": ("deploy/dcf", DCF),
    "deploy/flink": (".", set()),
    "deploy/cortex": (".", set()),
    "deploy/ray": (".", {"RAY_USAGE_STATS_ENABLED"}),
}


def found_problems(checkout: Path, image: str) -> list[str]:
    context, settings = IMAGES[image]
    return problems(checkout / image / "Dockerfile", checkout / context, settings)


@pytest.mark.parametrize("image", IMAGES)
def test_a_dockerfile_is_right_in_all_that_can_be_told_without_building_it(checkout: Path, image: str) -> None:
    assert found_problems(checkout, image) == []


def test_every_dockerfile_is_checked(checkout: Path) -> None:
    found = {file.parent.relative_to(checkout).as_posix() for file in checkout.rglob("*Dockerfile*")}
    assert found == set(IMAGES)


def test_all_images_that_we_build_on_python_stand_on_one_base(checkout: Path) -> None:
    bases = {
        each.value.split(" ")[0]
        for image in IMAGES
        for each in read_dockerfile(checkout / image / "Dockerfile")
        if each.name == "FROM" and each.value.startswith("python:")
    }
    assert len(bases) == 1


def test_every_setting_that_a_manifest_names_is_one_that_a_service_reads(checkout: Path) -> None:
    files = [file for file in (checkout / "deploy").rglob("*") if file.suffix in (".yaml", ".yml")]
    named = {name for file in files for name in re.findall(r"\b(?:REST|S3|DCF)_[A-Z_]+", file.read_text())}
    assert {"REST_HOST", "S3_BUCKET_NAME"} <= named
    assert named <= REST | FUNCTION | DCF


@pytest.mark.parametrize(
    ("image", "text", "broken", "said"),
    [
        ("rest", "WORKDIR /srv", "WORKDIRS /srv", "WORKDIRS is no instruction"),
        ("rest", "@sha256:", "@sha256:0", "is not pinned"),
        ("rest", "--from=build", "--from=built", "no such stage"),
        ("rest", "COPY visionserve", "COPY visionserver", "COPY visionserver: not in the build's context"),
        ("rest", "COPY visionserve visionserve", "COPY tests tests", "COPY tests: not in the build's context"),
        ("rest", "USER 10001:10001", "USER root", "USER root: name one other than root"),
        ("rest", "USER 10001:10001", "USER 0:0", "USER 0:0: name one other than root"),
        ("rest", 'CMD ["visionserve", "rest"]', "CMD visionserve rest", "write it as a JSON list"),
        ("rest", "REST_HOST=", "REST_ADDRESS=", "ENV REST_ADDRESS: nothing reads it"),
        ("rest", "-c constraints.txt ", "", "without constraints.txt"),
        ("rest", "[rest]", "[web]", "web is no extra"),
        ("model-server", '"--model"', '"--models"', "No such option"),
        ("model-server", '"model-server", ', '"model-serving", ', "no such command"),
        ("knative", '"function"', '"functions"', "visionserve functions: no such command"),
        ("knative", "COPY data", "COPY photos", "COPY photos: not in the build's context"),
        ("dcf", "handler_file=handler.py", "handler_file=main.py", "not in the build's context"),
        ("dcf", "requirements.txt ./", "requirement.txt ./", "COPY requirement.txt: not in the build's context"),
    ],
)
def test_a_broken_dockerfile_is_told(
    checkout: Path, tmp_path: Path, image: str, text: str, broken: str, said: str
) -> None:
    context, settings = IMAGES[f"deploy/{image}"]
    whole = (checkout / "deploy" / image / "Dockerfile").read_text()
    assert text in whole
    (tmp_path / "Dockerfile").write_text(whole.replace(text, broken))
    assert said in "\n".join(problems(tmp_path / "Dockerfile", checkout / context, settings))


def test_a_context_holds_nothing_but_what_its_image_needs(checkout: Path, tmp_path: Path) -> None:
    root = shutil.copytree(checkout, tmp_path / "checkout")
    for stray in (".git/HEAD", ".venv/bin/python", "models/resnet50/1/saved_model.pb", "tests/test_all.py", ".env",
                  "visionserve/__pycache__/cli.cpython-311.pyc", "deploy/.env"):  # fmt: skip
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        (root / stray).touch()
    roots = {file.split("/")[0] for file in context_files(root)}
    assert roots == {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "requirements", "visionserve"}
    assert not [file for file in context_files(root) if "__pycache__" in file]
