import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.cortex.manifests.exporting import Exported, every_field, export, mounted, refusal, write_spec
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.spec.file import load_specs


def project(exported: Exported, folder: Path) -> Path:
    [volume] = [volume for volume in exported.predictor["volumes"] if volume["name"] == "project"]
    folder.mkdir(exist_ok=True)
    return mounted(exported.one("ConfigMap"), volume, folder)


def files(folder: Path) -> set[str]:
    command = ["find", "-L", ".", "-type", "f", "-not", "-path", "./..*"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return {line.removeprefix("./") for line in listed.stdout.decode().splitlines()}


def read(folder: Path, name: str) -> ApiSpec:
    [spec] = load_specs(folder / name)
    return spec


def test_a_pod_has_the_files_that_cortex_would_upload_at_their_own_paths(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "project")
    (spec.parent / ".cortexignore").write_text("notes/\n*.log\n!keep.log\n")
    wanted = {
        "src/deep/helper.py": b"LEVEL = 3\n",
        "names.json": '["größe"]'.encode(),
        "keep.log": b"",
        "mask.png": b"\x89PNG\0",
    }
    left = {
        "notes/a.txt",
        "run.log",
        ".git/HEAD",
        ".env",
        "src/__pycache__/helper.cpython-311.pyc",
        "venv/pyvenv.cfg",
        "venv/lib/x.py",
    }
    for name, data in {**wanted, **dict.fromkeys(left, b"x")}.items():
        (spec.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (spec.parent / name).write_bytes(data)
    folder = project(export(spec, "kserve"), tmp_path / "pod")
    assert files(folder) == {*wanted, "predictor.py", "cortex.yaml"}
    assert {name: (folder / name).read_bytes() for name in wanted} == wanted


def test_this_project_comes_without_its_package_which_the_image_has(tmp_path: Path) -> None:
    exported = export(REPOSITORY / "cortex_cpu.yaml", "kserve", "--models-in-image")
    found = files(project(exported, tmp_path / "pod"))
    assert found == {
        "cortex_cpu.yaml",
        "predictor.py",
        "visionserve/vision/coco_classes.json",
        "visionserve/vision/imagenet_classes.json",
    }


def test_the_spec_of_a_pod_says_what_the_user_s_does_but_for_the_places_of_models(tmp_path: Path) -> None:
    file = every_field(tmp_path)
    for written in load_specs(file):
        pod = tmp_path / written.name
        exported = export(file, "kserve", "--name", written.name, "--models-in-image")
        found = read(project(exported, pod), file.name)
        # Where there is a place, it is the only difference.
        places = {"models/resnet50": "/mnt/models/resnet50", "models": "/mnt/models"}
        expected = yaml.safe_load(yaml.safe_dump(written.model_dump(mode="json", exclude={"project", "file"})))
        moved(expected["predictor"], places)
        config = found.predictor.config
        assert config == written.predictor.config
        assert found.model_dump(mode="json", exclude={"project", "file"}) == expected


def moved(predictor: dict[str, Any], places: dict[str, str]) -> None:
    models = predictor["models"] or {}
    for holder, field in [(models, "dir"), *((model, "model_path") for model in models.get("paths", []))]:
        if field in holder:
            holder[field] = places.get(holder[field], holder[field])


def test_any_change_of_the_project_gives_the_config_map_another_name(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    first = export(spec, "kserve")
    assert export(spec, "kserve").documents == first.documents
    with (tmp_path / "predictor.py").open("a") as predictor:
        predictor.write("# changed\n")
    second = export(spec, "kserve")
    names = [exported.one("ConfigMap")["metadata"]["name"] for exported in (first, second)]
    assert len(set(names)) == 2
    assert all(
        name.startswith("cats-") and exported.one("ConfigMap")["immutable"]
        for name, exported in zip(names, (first, second), strict=True)
    )


def test_files_whose_names_would_be_one_key_stay_two(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "project")
    names = {"a/b.txt": b"1", "a__b.txt": b"2", "a b.txt": b"3", "a_b.txt": b"4"}
    for name, data in names.items():
        (spec.parent / name).parent.mkdir(exist_ok=True)
        (spec.parent / name).write_bytes(data)
    folder = project(export(spec, "kserve"), tmp_path / "pod")
    assert {name: (folder / name).read_bytes() for name in names} == names


def test_binary_files_are_kept_as_such(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    (tmp_path / "mask.bin").write_bytes(bytes(range(256)))
    config_map = export(spec, "kserve").one("ConfigMap")
    assert base64.b64decode(config_map["binaryData"]["mask.bin"]) == bytes(range(256))


def test_a_project_that_is_too_large_is_refused_by_its_largest_file(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    (tmp_path / "photo.raw").write_bytes(bytes(2 << 20))
    said = refusal(spec)
    assert "the largest file is photo.raw" in said
    assert ".cortexignore" in said


def test_a_large_one_is_said_to_need_another_way_to_apply(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    (tmp_path / "names.txt").write_text("name\n" * 60_000)
    assert any("kubectl apply --server-side" in note for note in export(spec, "kserve").notes)


def test_a_predictor_that_is_left_out_is_refused(tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    (tmp_path / ".cortexignore").write_text("*.py\n")
    assert "predictor.py is left out of the project" in refusal(spec)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_are_not_written_into_a_manifest(tmp_path: Path, name: str) -> None:
    said = refusal(write_spec(tmp_path, predictor={"env": {name: "hush"}}))
    assert f"predictor.env.{name}" in said
    assert "--env-from-secret" in said
    assert "hush" not in said
