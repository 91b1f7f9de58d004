import base64
import json
import sys

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import REPOSITORY, run
from tests.photos import encoded, photographs
from tests.services.dcf.handlers import box, call, load
from visionserve.cli import main
from visionserve.environment import environment

COMMAND = [sys.executable, "-m", "visionserve.cli", "dcf"]


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(encoded(photographs()["coffee"], ".jpg"))
    return file


def invoke(*arguments, data=b"", **variables):
    with environment(**variables):
        return CliRunner().invoke(main, ["dcf", *map(str, arguments)], input=data)


def test_a_photo_through_base64_gives_what_the_handler_answers(detector, photo):
    done = run(["bash", "-c", f"cat '{photo}' | base64 | {' '.join(COMMAND)}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == call(load(model=detector), photo.read_bytes())


def test_the_boxes_are_drawn_on_the_picture(detector, photo, tmp_path):
    drawing = tmp_path / "new" / "boxes.png"
    done = run([*COMMAND, str(photo), "--model", str(detector), "--draw", str(drawing)])
    assert (done.returncode, done.stderr) == (0, "")
    before, after = cv2.imread(str(photo)), cv2.imread(str(drawing))
    assert after.shape == before.shape
    changed = (after != before).any(axis=2)
    objects = json.loads(done.stdout)
    assert objects
    for found in objects:
        xmin, ymin, xmax, ymax = box(found)
        # Labels may lie on the upper line.
        assert changed[ymin:ymax, xmin].mean() > 0.9
        assert changed[ymin:ymax, xmax - 1].mean() > 0.9
        assert changed[ymax - 1, xmin:xmax].mean() > 0.9
    assert changed.mean() < 0.2
    assert [file.name for file in drawing.parent.iterdir()] == ["boxes.png"]


def test_many_objects_are_drawn_on_a_large_picture(detector, tmp_path):
    photo, drawing = tmp_path / "tiles.png", tmp_path / "tiles.jpg"
    photo.write_bytes(encoded(np.tile(photographs()["coffee"], (3, 3, 1))))
    with environment(DCF_MIN_CONFIDENCE="0.01"):
        done = run([*COMMAND, str(photo), "--draw", str(drawing)])
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 9
    assert cv2.imread(str(drawing)).shape == (1200, 1800, 3)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DCF_MIN_CONFIDENCE", "2", "DCF_MIN_CONFIDENCE is '2': it must be less than or equal to 1."),
        ("DCF_MAX_OVERLAP", "half", "DCF_MAX_OVERLAP is 'half': it must be a valid number"),
        ("DCF_MAX_OBJECTS", "0", "DCF_MAX_OBJECTS is '0': it must be greater than or equal to 1."),
        ("DCF_ENGINE", "onnx", "DCF_ENGINE is 'onnx': it must be 'auto', 'openvino' or 'tensorflow'."),
        ("DCF_CLASS_NAMES", "some", "DCF_CLASS_NAMES is 'some': it must be a valid boolean"),
        ("DCF_LABELS", "missing.json", "The labels in missing.json cannot be read"),
        ("DCF_LABELS", "cortex_cpu.yaml", "cortex_cpu.yaml names no classes"),
    ],
)
def test_a_wrong_setting_is_named(photo, variable, value, said):
    done = invoke(photo, **{variable: value})
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_options_win_over_the_environment_and_an_empty_variable_is_none(photo, tmp_path):
    done = invoke(photo, "--model", tmp_path / "a", DCF_MODEL=str(tmp_path / "b"), DCF_MIN_CONFIDENCE="")
    assert done.exit_code == 1
    assert f"The model folder {tmp_path / 'a'} is missing" in done.stderr


def test_without_a_model_it_says_how_to_make_one(photo, tmp_path):
    done = run([*COMMAND, str(photo)], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "make it with visionserve export detector" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "The input is empty"), (b"no base64!", "The input is not valid base64")],
)
def test_what_is_no_base64_fails_in_one_sentence(data, said):
    done = invoke(data=data)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr


def test_what_is_no_image_fails_in_one_sentence(detector):
    done = invoke("--model", detector, data=base64.b64encode(b"text"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "The input is not an image" in done.stderr


@pytest.mark.parametrize("name", ["boxes", "boxes.txt"])
def test_a_drawing_that_is_no_image_file_is_refused_before_anything_is_loaded(photo, tmp_path, name):
    done = invoke(photo, "--draw", tmp_path / name)
    assert done.exit_code == 2
    assert "ends in .png or .jpg" in done.stderr
    assert not (tmp_path / name).exists()


def test_the_help_has_an_example_and_loads_nothing_heavy():
    done = invoke("--help")
    assert "cat photo.jpg | base64 | visionserve dcf" in done.stdout
    check = "import sys, visionserve.cli; print([n for n in ('cv2', 'numpy', 'openvino') if n in sys.modules])"
    assert run([sys.executable, "-c", check]).stdout.strip() == "[]"


def test_the_configuration_for_dcf_s_command_line_names_the_handler():
    config = yaml.safe_load((REPOSITORY / "deploy" / "dcf" / "config.yaml").read_text())
    assert set(config) == {"dcf", "functions"}
    assert config["dcf"]["gateway"]
    [function] = config["functions"].values()
    # DCF's AboutConfig_yaml.md lists these.
    assert set(function) <= {
        "runtime", "desc", "maintainer", "handler", "image", "limits", "environment", "skip_build", "build_args"
    }  # fmt: skip
    folder = REPOSITORY / "deploy" / "dcf" / function["handler"]["dir"]
    assert f"def {function['handler']['name']}(" in (folder / function["handler"]["file"]).read_text()
    assert (folder / "Dockerfile").is_file()
    assert all(isinstance(limit, str) for limit in function["limits"].values())
