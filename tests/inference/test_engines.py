import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import run
from tests.photos import crops, encoded
from visionserve.cores import available_cores
from visionserve.errors import MissingError, ModelError, UsageError
from visionserve.inference.engines import choose_engine, load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.vision.pixels import to_input


def load(name, model):
    return load_engine(name, find_version(model)[1], DEFAULT_SIGNATURE, available_cores())


def test_openvino_and_tensorflow_agree_on_fifty_crops_of_photographs(model):
    pixels = np.stack([to_input(encoded(crop)) for crop in crops(50)])
    openvino, tensorflow = load("openvino", model), load("tensorflow", model)
    for start in range(0, 50, 10):
        batch = {"input": pixels[start : start + 10]}
        ours, theirs = openvino.infer(batch)["output"], tensorflow.infer(batch)["output"]
        assert np.abs(ours - theirs).max() <= 1e-4
        assert (np.argsort(-ours)[:, :5] == np.argsort(-theirs)[:, :5]).all()


@pytest.mark.skipif(available_cores() < 2, reason="one core has no other that could be left idle")
def test_an_engine_of_one_thread_is_not_bound_to_the_first_core(model):
    """Two processes with such an engine would share that core."""
    done = run([sys.executable, "-m", "tests.inference.affinities", str(find_version(model)[1])])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [",".join(map(str, sorted(os.sched_getaffinity(0))))]


def test_the_engines_show_the_same_signature(model):
    openvino, tensorflow, null = load("openvino", model), load("tensorflow", model), load("null", model)
    assert openvino.signature == tensorflow.signature == null.signature


def test_an_answer_stays_as_it_was_when_the_next_batch_runs(model):
    engine = load("openvino", model)
    dark, light = np.zeros((1, 224, 224, 3), np.uint8), np.full((1, 224, 224, 3), 200, np.uint8)
    first = engine.infer({"input": dark})["output"]
    copy = first.copy()
    engine.infer({"input": light})
    assert (first == copy).all()


def test_auto_takes_openvino_and_tensorflow_for_what_openvino_cannot_run():
    assert choose_engine("auto") == "openvino"
    assert choose_engine("auto", signature_key="other") == "tensorflow"
    assert choose_engine("auto", accelerated=True) == "tensorflow"


def test_an_engine_that_is_not_installed_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="scripts/setup openvino"):
        choose_engine("openvino")
    with pytest.raises(MissingError, match="No engine is installed"):
        choose_engine("auto")


def test_wrong_engines_and_signatures_are_refused(model):
    with pytest.raises(UsageError, match="not one of auto, tensorflow, openvino, null"):
        choose_engine("onnx")
    with pytest.raises(ModelError, match="serving_default"):
        choose_engine("openvino", signature_key="other")
    with pytest.raises(ModelError, match="set signature_key to one of image_bytes, serving_default"):
        load_engine("tensorflow", find_version(model)[1], "other", available_cores())


def test_the_highest_version_folder_is_served(tmp_path):
    for version in ("2", "10", "notes"):
        (tmp_path / version).mkdir()
    for version in ("2", "10"):
        (tmp_path / version / "saved_model.pb").touch()
    assert find_version(tmp_path) == (10, tmp_path / "10")
    assert find_version(tmp_path / "2") == (1, tmp_path / "2")


def test_on_many_cores_openvino_answers_batches_side_by_side_as_it_answers_one(model):
    engine = load_engine("openvino", find_version(model)[1], DEFAULT_SIGNATURE, 8)
    assert engine.slots > 1
    photos = np.stack([to_input(encoded(square)) for square in crops(8)])
    with ThreadPoolExecutor(engine.slots) as threads:
        together = list(threads.map(lambda photo: engine.infer({"input": photo[None]})["output"][0], photos))
    alone = load("openvino", model).infer({"input": photos})["output"]
    assert np.abs(np.stack(together) - alone).max() <= 1e-4


def test_a_build_for_other_hardware_is_refused_in_one_sentence(model, tmp_path):
    """As TensorRT's and Neuron's builds are by a TensorFlow without their operations."""
    folder = shutil.copytree(find_version(model)[1], tmp_path / "resnet50_gpu")
    saved_model = read_saved_model(folder)
    for node in nodes_of(saved_model):
        if node.op == "Softmax":
            node.op = "TRTEngineOp"
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(ModelError, match="built for other hardware, with an operation TRTEngineOp") as refused:
        load_engine("tensorflow", folder, DEFAULT_SIGNATURE, 1)
    assert "--tensorflow-serving HOST:PORT" in str(refused.value)
