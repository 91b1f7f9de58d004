import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY, Machine, free_port, run
from tests.inference.model_servers import COMMAND
from tests.inference.repositories import add_version, serving
from tests.photos import crops, encoded
from tests.projects import repository_spec
from visionserve.cores import available_cores
from visionserve.errors import MissingError, ModelError
from visionserve.inference.engines import choose_engine, load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.vision.pixels import to_input


@pytest.fixture(scope="module")
def converted(model, tmp_path_factory):
    """The CPU build as OpenVINO itself saves it: FOLDER/1/model.xml and model.bin."""
    import openvino

    folder = tmp_path_factory.mktemp("models") / "resnet50_openvino"
    openvino.save_model(openvino.Core().read_model(find_version(model)[1]), folder / "1" / "model.xml", False)
    yield folder
    shutil.rmtree(folder)


def empty_model(folder):
    folder.mkdir(parents=True)
    for name in ("model.xml", "model.bin"):
        (folder / name).touch()
    return folder


@pytest.mark.slow
def test_a_model_in_openvino_s_format_answers_as_the_saved_model(model, converted):
    pixels = np.stack([to_input(encoded(square)) for square in crops(10)])
    engines = [
        load_engine("openvino", find_version(path)[1], DEFAULT_SIGNATURE, available_cores())
        for path in (converted, model)
    ]
    assert engines[0].signature == engines[1].signature
    ours, theirs = (engine.infer({"input": pixels})["output"] for engine in engines)
    assert np.abs(ours - theirs).max() <= 1e-5


def test_versions_may_be_of_either_format(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    second = empty_model(tmp_path / "2")
    assert find_version(tmp_path) == (2, second)
    assert find_version(second) == (1, second)
    (second / "model.bin").unlink()
    assert find_version(tmp_path) == (1, tmp_path / "1")
    with pytest.raises(ModelError, match=r"nor model\.xml and model.bin, nor a numbered version folder"):
        find_version(second)


def test_auto_takes_openvino_for_its_own_format_and_nothing_else(tmp_path, monkeypatch):
    folder = empty_model(tmp_path / "1")
    assert choose_engine("auto", folder=folder) == "openvino"
    assert choose_engine("auto", accelerated=True, folder=folder) == "openvino"
    with pytest.raises(ModelError, match="set signature_key to serving_default"):
        choose_engine("auto", signature_key="image_bytes", folder=folder)
    installed = {"tensorflow": object()}
    monkeypatch.setattr("importlib.util.find_spec", installed.get)
    assert choose_engine("auto") == "tensorflow"
    with pytest.raises(MissingError, match="scripts/setup openvino"):
        choose_engine("auto", folder=folder)


def test_the_engine_tensorflow_refuses_it_in_one_sentence(tmp_path):
    folder = empty_model(tmp_path / "1")
    with pytest.raises(ModelError, match=r"is an OpenVINO model .* the engine tensorflow cannot run"):
        choose_engine("tensorflow", folder=folder)
    with pytest.raises(ModelError, match="is an OpenVINO model"):
        load_engine("tensorflow", folder, DEFAULT_SIGNATURE, 1)


@pytest.mark.slow
def test_the_model_server_with_the_engine_tensorflow_ends_with_that_sentence(tmp_path):
    empty_model(tmp_path / "1")
    ports = ("--port", str(free_port()), "--rest-port", "0")
    done = run([*COMMAND, "--model", f"a={tmp_path}", "--engine", "tensorflow", *ports])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {tmp_path / '1'} is an OpenVINO model (model.xml), which the engine tensorflow cannot run: "
        f"use --engine openvino.\n"
    )


@pytest.mark.slow
def test_a_new_version_in_the_other_format_takes_over_once_it_is_whole(model, converted, tmp_path):
    folder = tmp_path / "resnet50"
    add_version(folder, 1, model)
    settings = {"name": "resnet50", "path": folder, "engine": "openvino", "threads": 2}
    with serving(tmp_path, settings) as server:
        (folder / "2").mkdir()
        shutil.copy(converted / "1" / "model.xml", folder / "2")
        assert server.version("resnet50") == 1
        shutil.copy(converted / "1" / "model.bin", folder / "2")
        server.wait_for_states("resnet50", v1="END", v2="AVAILABLE")
        assert server.version("resnet50") == 2


@pytest.mark.slow
def test_a_spec_with_it_is_deployed_with_openvino_and_refused_for_tensorflow(machine: Machine, converted, tmp_path):
    spec = repository_spec(tmp_path / "project", REPOSITORY, converted)
    refused = machine.cortex("deploy", spec, "--engine", "tensorflow")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (1, 1)
    assert "the engine tensorflow cannot run" in refused.stderr
    api = machine.deploy(spec, "--port", free_port())
    assert api.row()["engine"] == "openvino"
    done = machine.cortex("predict", api.name, REPOSITORY / "sample.json")
    assert "Egyptian_cat" in done.stdout
    # OpenVINO's telemetry would keep an identifier of the user there.
    assert not (Path(machine.environment["HOME"]) / "intel").exists()
