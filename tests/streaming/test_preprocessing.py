import numpy as np
import pytest

from tests.photos import crops, encoded
from tests.streaming.classifiers import write_color_classifier, write_keras_resnet50, write_slim_like
from visionserve.errors import UsageError
from visionserve.models.weights import find_weights
from visionserve.streaming.inference_model import InferenceModel
from visionserve.vision.pixels import to_input

DOCUMENTED = {"if_reverse_input_channels": True, "mean_values": (123.68, 116.78, 103.94), "scale": 1}
CAFFE = {"if_reverse_input_channels": False, "mean_values": (103.939, 116.779, 123.68), "scale": 1}


@pytest.fixture(scope="module")
def photos():
    return np.stack([to_input(encoded(crop)) for crop in crops(4)])


@pytest.fixture(scope="module")
def answers(model, photos):
    """Of the build that prepares the pixels itself."""
    return answered(lambda inference_model: inference_model.load_tf(model, **DOCUMENTED), photos)


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory):
    return write_keras_resnet50(find_weights(), tmp_path_factory.mktemp("models") / "keras")


@pytest.fixture(scope="module")
def slim_like(keras_model):
    return write_slim_like(keras_model, keras_model.parent / "resnet_v1_50.xml")


def answered(load, pixels):
    inference_model = InferenceModel(threads=2)
    load(inference_model)
    try:
        return inference_model.predict(pixels)
    finally:
        inference_model.release()


@pytest.mark.slow
def test_a_model_that_wants_blue_first_gets_it_with_its_means(answers, photos, keras_model):
    given = answered(lambda each: each.load_tf(keras_model, **CAFFE), photos)
    assert np.abs(given - answers).max() <= 1e-4


@pytest.mark.slow
def test_one_of_slim_s_convention_takes_the_documented_options(answers, photos, slim_like):
    """Channels before rows, too. The documented means are rounded."""
    given = answered(lambda each: each.load_openvino(slim_like, input_shape=(1, 3, 224, 224), **DOCUMENTED), photos)
    assert np.abs(given - answers).max() <= 1e-3


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, [200 - 123.68, 100 - 116.779, 50 - 103.939]),
        # The means stay with their colors.
        (
            {"if_reverse_input_channels": False, "scale": 50},
            [(50 - 103.939) / 50, (100 - 116.779) / 50, (200 - 123.68) / 50],
        ),
        ({"model_type": "inception_v3"}, [(200 - 127.5) / 127.5, (100 - 127.5) / 127.5, (50 - 127.5) / 127.5]),
        ({"scale": 50}, [(200 - 123.68) / 50, (100 - 116.779) / 50, (50 - 103.939) / 50]),
        (
            {"if_reverse_input_channels": False, "mean_values": (1, 2, 3), "scale": 100},
            [(50 - 1) / 100, (100 - 2) / 100, (200 - 3) / 100],
        ),
    ],
)
def test_the_channels_are_reversed_then_the_means_go_then_the_scale_divides(tmp_path, options, seen):
    """Of a model that answers with the softmax of its channels' means, on a picture of one color."""
    folder = write_color_classifier(tmp_path)
    picture = np.full([1, 8, 8, 3], [200, 100, 50], np.uint8)
    given = answered(lambda each: each.load_openvino(folder, input_shape=(1, 8, 8, 3), **options), picture)
    expected = np.exp(seen) / np.exp(seen).sum()
    assert np.abs(given[0] - expected).max() <= 1e-5


def test_a_model_of_any_size_takes_that_of_input_shape(tmp_path):
    folder = write_color_classifier(tmp_path, (-1, -1, -1, 3))
    picture = np.zeros([2, 12, 10, 3], np.uint8)
    assert answered(lambda each: each.load_openvino(folder, input_shape=(1, 12, 10, 3)), picture).shape == (2, 3)


def test_a_model_made_for_one_picture_takes_batches(tmp_path):
    folder = write_color_classifier(tmp_path, (1, 8, 8, 3))
    picture = np.zeros([5, 8, 8, 3], np.uint8)
    assert answered(lambda each: each.load_openvino(folder, input_shape=(1, 8, 8, 3)), picture).shape == (5, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({**DOCUMENTED, "scale": 255}, "which --scale 255 contradicts: leave the option out"),
        (CAFFE, "which --ifReverseInputChannels false --meanValues 103.939,116.779,123.68 contradicts"),
        ({"mean_values": (127.5, 127.5, 127.5)}, "which --meanValues 127.5,127.5,127.5 contradicts"),
        ({"model_type": "inception_v3"}, "is a build of resnet50: give --modelType resnet_v1_50, not inception_v3"),
        (
            {"input_shape": (1, 299, 299, 3)},
            r"takes \[N, 224, 224, 3\]: give --inputShape 1,224,224,3, not 1,299,299,3",
        ),
        ({"input_shape": (1, 3, 224, 224)}, "give --inputShape 1,224,224,3, not 1,3,224,224"),
    ],
)
def test_options_that_contradict_a_model_that_prepares_the_pixels_itself_are_refused(model, options, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        InferenceModel(threads=1).load_tf(model, **options)
    assert "\n" not in str(refused.value)


def test_pixels_for_another_s_model_go_by_its_type(tmp_path):
    folder = write_color_classifier(tmp_path, dtype=np.uint8)
    picture = np.zeros([1, 8, 8, 3], np.uint8)
    options = {"input_shape": (1, 8, 8, 3), "model_type": "mobilenet_v2"}
    assert answered(lambda each: each.load_openvino(folder, **options, scale=127.5), picture).shape == (1, 3)
    with pytest.raises(UsageError, match=r"--scale 127\.5, which --scale 1 contradicts"):
        InferenceModel(threads=1).load_openvino(folder, **options, scale=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_type": "resnet"}, "--modelType resnet is not one of resnet_v1_50, .*resnet_v2_152"),
        ({"input_shape": (224, 224, 3)}, "--inputShape 224,224,3 is neither 1,HEIGHT,WIDTH,3 nor 1,3,HEIGHT,WIDTH"),
        ({"input_shape": (1, 0, 224, 3)}, "--inputShape 1,0,224,3 is neither"),
        ({"mean_values": (1, 2)}, "--meanValues 1,2 is not one number for each channel"),
        ({"mean_values": (1, 2, float("nan"))}, "--meanValues 1,2,nan is not one number for each channel"),
        ({"scale": 0}, "--scale 0 is not a number above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_the_model_is_read(tmp_path, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        InferenceModel(threads=1).load_tf(tmp_path, **options)
