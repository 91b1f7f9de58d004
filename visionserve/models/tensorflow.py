import os
from typing import Any

from visionserve.errors import MissingError


def import_tensorflow() -> tuple[Any, Any]:
    """(tensorflow, keras), Keras running on TensorFlow, without TensorFlow's start-up messages.

    Raises MissingError where TensorFlow is not installed.
    """
    # Both are read when TensorFlow and Keras are first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import keras
        import tensorflow
    except ImportError as error:
        raise MissingError(
            f"exporting needs TensorFlow, which is not installed ({error}): run pip install 'visionserve[export]'"
        ) from error
    keras.config.set_image_data_format("channels_last")
    return tensorflow, keras
