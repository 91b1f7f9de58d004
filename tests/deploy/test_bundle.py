import sys
from pathlib import Path

import pytest

from tests.conftest import run
from tests.deploy.checkout import bundle


def test_a_bundle_holds_the_project_its_constraints_and_the_newest_version_of_the_model(checkout: Path) -> None:
    found = checkout / "deploy" / "knative" / "bundle"
    assert (found / "constraints.txt").read_bytes() == (checkout / "constraints.txt").read_bytes()
    assert [file.read_text() for file in found.rglob("saved_model.pb")] == ["10"]
    assert (found / "models" / "resnet50" / "10" / "saved_model.pb").is_file()
    assert (checkout / "deploy" / "dcf" / "bundle" / "models" / "detector" / "10").is_dir()


def test_a_bundle_takes_the_place_of_the_one_before(checkout: Path) -> None:
    folder = checkout / "deploy" / "dcf"
    (folder / "bundle" / "left-over").touch()
    done = bundle(checkout, "deploy/dcf", folder / "bundle" / "models" / "detector")
    assert done.returncode == 0, done.stderr
    assert not (folder / "bundle" / "left-over").exists()
    assert [path.name for path in folder.glob(".*")] == [".dockerignore"]


def test_git_ignores_a_bundle(checkout: Path) -> None:
    assert (checkout / "deploy" / "dcf" / "bundle" / ".gitignore").read_text() == "*\n"


@pytest.mark.slow
def test_what_a_bundle_installs_is_the_whole_project(checkout: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", tmp_path]
    done = run([*map(str, pip), "-r", "requirements.txt"], cwd=checkout / "deploy" / "dcf")
    assert done.returncode == 0, done.stderr
    installed = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "visionserve").rglob("*")}
    data = {path.relative_to(checkout).as_posix() for path in (checkout / "visionserve").rglob("*") if path.is_file()}
    assert data <= installed
    reading = "from visionserve.vision.labels import *; print(len(load_classes(IMAGENET_CLASSES)))"
    labels = run([sys.executable, "-c", reading], cwd=tmp_path)
    assert labels.stdout == "1000\n", labels.stderr


def test_what_it_cannot_bundle_it_says_in_a_sentence(checkout: Path, tmp_path: Path) -> None:
    missing = bundle(checkout, "deploy/knative")
    assert missing.returncode == 3
    assert missing.stderr == (
        "models/resnet50 holds no version of a model: make one with visionserve export cpu, or name its folder.\n"
    )
    assert "visionserve export detector" in bundle(checkout, "deploy/dcf", tmp_path).stderr
    usage = bundle(checkout)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: ")
    assert bundle(checkout, tmp_path / "nowhere").returncode == 2
