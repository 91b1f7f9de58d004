import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.photos import crops, encoded, photographs
from tests.streaming.classifiers import write_color_classifier
from visionserve.errors import InferenceError, InvalidInputError, ModelError, UsageError
from visionserve.inference.batcher import Batcher
from visionserve.inference.engines import load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.streaming.inference_model import InferenceModel
from visionserve.streaming.labels import load_labels, top5
from visionserve.vision.pixels import to_input

SMALL = (1, 8, 8, 3)


@pytest.fixture(scope="module")
def photos():
    return np.stack([to_input(encoded(crop)) for crop in crops(8)])


@pytest.fixture(scope="module")
def answers(model, photos):
    """What the model server's engine says of them."""
    engine = load_engine("openvino", find_version(model)[1], DEFAULT_SIGNATURE, 2)
    return engine.infer({"input": photos})["output"]


@pytest.fixture(scope="module")
def loaded(model):
    inference_model = InferenceModel(concurrent_num=2, threads=2)
    inference_model.load_tf(model)
    yield inference_model
    inference_model.release()


@pytest.fixture(scope="module")
def color_classifier(tmp_path_factory):
    """A small model that is loaded in no time: 8x8 pixels -> the share of each color."""
    return write_color_classifier(tmp_path_factory.mktemp("models"))


def small_model(folder, **options):
    small = InferenceModel(threads=1)
    small.load_openvino(folder, **{"input_shape": SMALL, **options})
    return small


def test_a_saved_model_answers_as_the_engine_does(loaded, photos, answers):
    ours = loaded.predict(photos)
    assert (ours.dtype, ours.shape) == (np.float32, (8, 1000))
    assert np.abs(ours - answers).max() <= 1e-4
    assert (np.argsort(-ours)[:, :5] == np.argsort(-answers)[:, :5]).all()


def test_a_model_in_openvino_s_format_does_too_under_the_documented_options(model, photos, answers, tmp_path):
    import openvino

    openvino.save_model(openvino.Core().read_model(find_version(model)[1]), tmp_path / "1" / "model.xml", False)
    converted = InferenceModel(threads=2)
    options = {"if_reverse_input_channels": True, "mean_values": [123.68, 116.78, 103.94], "scale": 1}
    converted.load_openvino(tmp_path, model_type="resnet_v1_50", input_shape=[1, 224, 224, 3], **options)
    assert np.abs(converted.predict(photos) - answers).max() <= 1e-4


def test_many_threads_get_each_the_answer_to_their_own_pictures(loaded, photos, answers):
    order = [*range(8)] * 3
    with ThreadPoolExecutor(6) as threads:
        ours = list(threads.map(lambda index: loaded.predict(photos[index : index + 1])[0], order))
    assert np.abs(np.stack(ours) - answers[order]).max() <= 1e-4


def test_a_batcher_joins_what_a_task_asks(loaded, photos, answers):
    async def classify_each():
        batcher = Batcher(loaded.engine, max_batch_size=4)
        try:
            return await asyncio.gather(*(batcher.infer({"input": photo[None]}) for photo in photos))
        finally:
            batcher.close()

    ours = asyncio.run(classify_each())
    assert np.abs(np.concatenate([answer["output"] for answer in ours]) - answers).max() <= 1e-4


def test_the_rows_name_the_five_likeliest_classes(loaded):
    probabilities = loaded.predict(to_input(encoded(photographs()["chelsea"]))[None])
    [row] = top5(probabilities, load_labels(1000))
    assert [entry["label"] for entry in row][:3] == ["Egyptian_cat", "tiger_cat", "tabby"]
    assert [entry["probability"] for entry in row] == sorted(probabilities[0].tolist())[:-6:-1]


def test_a_thousand_and_one_classes_begin_with_the_background():
    assert load_labels(1001) == ["background", *load_labels(1000)]
    with pytest.raises(ModelError, match="gives 365 classes, where ImageNet has 1000, or one more for a background"):
        load_labels(365)


def test_after_release_nothing_is_predicted_until_a_model_is_loaded_again(color_classifier):
    small = small_model(color_classifier)
    pixels = np.zeros([2, 8, 8, 3], np.uint8)
    before = small.predict(pixels)
    small.release()
    small.release()
    with pytest.raises(ModelError, match="No model is loaded: call load_tf or load_openvino before predict"):
        small.predict(pixels)
    small.load_openvino(color_classifier, input_shape=SMALL)
    assert (small.predict(pixels) == before).all()


def test_loading_replaces_the_model_and_one_that_does_not_load_leaves_it(color_classifier, tmp_path):
    small = small_model(color_classifier)
    pixels = np.full([1, 8, 8, 3], [200, 200, 10], np.uint8)
    first = small.predict(pixels)
    with pytest.raises(ModelError, match="There is no model folder"):
        small.load_openvino(tmp_path / "nothing", input_shape=SMALL)
    assert (small.predict(pixels) == first).all()
    small.load_openvino(write_color_classifier(tmp_path, (-1, 16, 16, 3)), input_shape=(1, 16, 16, 3))
    with pytest.raises(InvalidInputError, match=r"has the shape \[-1, 16, 16, 3\]"):
        small.predict(pixels)


def test_release_lets_running_batches_end_and_turns_waiting_ones_away(color_classifier):
    small = small_model(color_classifier)
    pixels = np.random.default_rng(0).integers(0, 256, [64, 8, 8, 3], np.uint8)
    expected = small.predict(pixels)
    all_at_work = threading.Barrier(5)

    def predict_until_released():
        answers = [small.predict(pixels)]
        all_at_work.wait(60)
        try:
            while True:
                answers.append(small.predict(pixels))
        except (InferenceError, ModelError) as error:
            return answers, str(error)

    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(predict_until_released) for _ in range(4)]
        all_at_work.wait(60)
        small.release()
        for answers, error in (each.result(timeout=60) for each in done):
            assert all((answer == expected).all() for answer in answers)
            assert "was released" in error or "No model is loaded" in error


def test_pixels_that_do_not_fit_are_refused_in_one_sentence(color_classifier):
    small = small_model(color_classifier)
    pixels = np.zeros([1, 8, 8, 3], np.uint8)
    for sentence, wrong in {
        "Input input is uint8, not float32.": pixels.astype(np.float32),
        "Input input has the shape [-1, 8, 8, 3], not [8, 8, 3].": pixels[0],
        "Input input has the shape [-1, 8, 8, 3], not [1, 4, 8, 3].": pixels[:, :4],
        "The inputs need one batch size of at least 1, not [0].": pixels[:0],
    }.items():
        with pytest.raises(InvalidInputError) as refused:
            small.predict(wrong)
        assert str(refused.value) == sentence


def test_what_holds_no_such_model_is_refused_in_one_sentence(color_classifier, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"no graph")
    cut = shutil.copytree(color_classifier, tmp_path / "cut")
    (cut / "model.xml").write_text((cut / "model.xml").read_text()[:200])
    (tmp_path / "alone.xml").touch()
    any_model = InferenceModel(threads=1)
    for load, path, sentence in (
        (any_model.load_tf, tmp_path / "none", "There is no model folder"),
        (any_model.load_tf, tmp_path / "empty", "is not a SavedModel or an OpenVINO model"),
        (any_model.load_tf, tmp_path / "saved" / "saved_model.pb", "is a file, where the folder of"),
        (any_model.load_tf, tmp_path / "saved", "OpenVINO cannot read"),
        (any_model.load_tf, color_classifier, "is a model in OpenVINO's format, not a SavedModel: load_openvino"),
        (any_model.load_openvino, tmp_path / "saved", "is a SavedModel, not a model in OpenVINO's format: load_tf"),
        (any_model.load_openvino, cut, "OpenVINO cannot read"),
        (any_model.load_openvino, tmp_path / "alone.xml", r"it needs this file and alone\.bin beside it"),
    ):
        with pytest.raises(ModelError, match=sentence) as refused:
            load(path, input_shape=SMALL)
        assert "\n" not in str(refused.value)


def test_what_is_no_classifier_of_images_is_refused_in_one_sentence(tmp_path):
    for name, wrong, sentence in (
        ("inputs", {"inputs": 2}, "takes 2 inputs, where a classifier of images takes one"),
        (
            "vectors",
            {"shape": (-1, 8), "rank": 1},
            r"takes \[N, 8\], where a classifier of images takes \[N, H, W, 3\]",
        ),
        ("maps", {"rank": 3}, r"gives f32 \[N, 8, 3\], where a classifier gives one float \[N, K\]"),
        ("integers", {"dtype": np.int64}, "takes i64, where a classifier of images takes uint8 or floats"),
        ("logits", {"softmax": False}, "gives numbers that are no probabilities .*: export it with its softmax"),
    ):
        folder = write_color_classifier(tmp_path / name, **wrong)
        with pytest.raises(ModelError, match=sentence):
            small_model(folder)


def test_a_number_of_batches_or_threads_below_one_is_refused():
    with pytest.raises(UsageError, match="concurrent_num is 0: it must be at least 1"):
        InferenceModel(0)
    with pytest.raises(UsageError, match="threads is 0"):
        InferenceModel(1, threads=0)
