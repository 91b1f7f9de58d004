"""The images that cortex export-manifest's objects run, beyond what every Dockerfile is checked for."""

import json
import re
from pathlib import Path, PurePosixPath

import pytest

from tests.cortex.manifests.exporting import export, write_spec
from tests.deploy.dockerfiles import Instruction, problems, read_dockerfile
from visionserve.cortex.cli import main

SETTINGS = {"cortex": set(), "ray": {"RAY_USAGE_STATS_ENABLED"}}


def final_stage(checkout: Path, image: str) -> list[Instruction]:
    instructions = read_dockerfile(checkout / "deploy" / image / "Dockerfile")
    return instructions[max(index for index, each in enumerate(instructions) if each.name == "FROM") :]


def value(stage: list[Instruction], name: str) -> str:
    [found] = [each.value for each in stage if each.name == name]
    return found


@pytest.mark.parametrize("image", SETTINGS)
def test_an_image_for_a_cluster_is_right_in_all_that_can_be_told_without_building_it(
    checkout: Path, image: str
) -> None:
    assert problems(checkout / "deploy" / image / "Dockerfile", checkout, SETTINGS[image]) == []


@pytest.mark.parametrize("image", SETTINGS)
def test_it_has_what_fetches_models_from_s3_and_what_runs_them(checkout: Path, image: str) -> None:
    text = (checkout / "deploy" / image / "Dockerfile").read_text()
    installed = re.search(r'"\.\[([\w,]+)\]"', text)
    assert installed
    assert {"openvino", "s3"} | ({"ray"} if image == "ray" else set()) == set(installed[1].split(","))


def test_the_default_command_of_the_kserve_image_is_the_manifest_s(checkout: Path, tmp_path: Path) -> None:
    stage = final_stage(checkout, "cortex")
    container = export(write_spec(tmp_path), "kserve").container
    program, name, file, *options = json.loads(value(stage, "CMD"))
    assert [program, name, str(PurePosixPath(value(stage, "WORKDIR"), file)), *options] == container["command"]
    assert value(stage, "EXPOSE") == str(container["ports"][0]["containerPort"])
    assert main.commands[name].make_context(name, [file, *options]).params["foreground"] is True


def test_the_working_folder_hides_no_part_of_the_package(checkout: Path, tmp_path: Path) -> None:
    for image in SETTINGS:
        folder = value(final_stage(checkout, image), "WORKDIR")
        mounts = export(write_spec(tmp_path), "kserve").container["volumeMounts"]
        assert folder not in {mount["mountPath"] for mount in mounts}


def test_kuberay_finds_ray_and_wget_by_name(checkout: Path) -> None:
    stage = final_stage(checkout, "ray")
    run = value(stage, "RUN")
    assert re.search(r"apt-get install .*\bwget\b", run)
    assert "ln -s /opt/visionserve/bin/ray /usr/local/bin/ray" in run
    # Debian's /etc/profile, which a login shell reads, has this folder in its PATH and no other of ours.
    assert [each.value for each in stage if each.name == "COPY"] == ["--from=build /opt/visionserve /opt/visionserve"]
