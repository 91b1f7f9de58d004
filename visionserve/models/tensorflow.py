import os
from typing import Any

from visionserve.errors import MissingError, install_command


def import_tensorflow() -> Any:
    """tensorflow without its start-up messages. Raises MissingError where it is not installed."""
    # Both are read when TensorFlow and Keras are first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import tensorflow
    except ImportError as error:
        raise _missing(error) from error
    return tensorflow


def import_keras() -> Any:
    """Keras 3 running on TensorFlow. Raises MissingError where it is not installed."""
    import_tensorflow()
    try:
        import keras
    except ImportError as error:
        raise _missing(error) from error
    keras.config.set_image_data_format("channels_last")
    return keras


def _missing(error: ImportError) -> MissingError:
    return MissingError(
        f"exporting needs TensorFlow, which is not installed ({error}): run {install_command('export')}"
    )
