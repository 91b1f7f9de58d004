"""The classifiers of TensorFlow-Slim by the names that Analytics Zoo's --modelType takes, and how each wants pixels.

https://github.com/tensorflow/models, research/slim: preprocessing/preprocessing_factory.py names the convention of each
network; of ResNet V2 the README says that the published ones were trained with Inception's.
"""

from visionserve.errors import UsageError
from visionserve.streaming.preprocessing import Preprocessing

# preprocessing/vgg_preprocessing.py, to three digits as Caffe's models and Keras have them.
VGG = Preprocessing(reverse_channels=True, mean_values=(123.68, 116.779, 103.939), scale=1)
# preprocessing/inception_preprocessing.py: -1..1.
INCEPTION = Preprocessing(reverse_channels=True, mean_values=(127.5, 127.5, 127.5), scale=127.5)

MODEL_TYPES = {
    **dict.fromkeys(["resnet_v1_50", "resnet_v1_101", "resnet_v1_152", "vgg_16", "vgg_19"], VGG),
    **dict.fromkeys(
        [
            *["inception_v1", "inception_v2", "inception_v3", "inception_v4", "inception_resnet_v2"],
            *["mobilenet_v1", "mobilenet_v2", "resnet_v2_50", "resnet_v2_101", "resnet_v2_152"],
        ],
        INCEPTION,
    ),
}
DEFAULT_MODEL_TYPE = "resnet_v1_50"
# By the model that a model.json names: visionserve's own builds, whose graphs prepare the pixels themselves.
TYPES_OF_BUILDS = {"resnet50": "resnet_v1_50"}


def preprocessing_of(model_type: str) -> Preprocessing:
    """Raises UsageError, with all that there are, for a type that is not one of them."""
    try:
        return MODEL_TYPES[model_type]
    except KeyError:
        raise UsageError(f"--modelType {model_type} is not one of {', '.join(MODEL_TYPES)}.") from None
