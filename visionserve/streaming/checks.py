"""What can be told to be wrong before Java is started."""

import importlib.util
from pathlib import Path

from visionserve.errors import MissingError, UsageError
from visionserve.inference.model_folder import find_version, is_openvino_model
from visionserve.streaming.classifier_graph import read_classifier
from visionserve.streaming.inference_model import openvino_graph, saved_model
from visionserve.streaming.java import find_java
from visionserve.streaming.labels import load_labels
from visionserve.streaming.model_options import ModelOptions
from visionserve.streaming.rest_client import FlinkRest

# The series that the job is built with.
FLINK = "2.3"


def find_model(path: Path) -> Path:
    """A SavedModel's own folder, or an OpenVINO model's .xml file. Raises ModelError where there is none."""
    if path.suffix == ".xml" or (path.is_dir() and is_openvino_model(find_version(path)[1])):
        return openvino_graph(path)
    return saved_model(path)


def check_model(model: Path, options: ModelOptions) -> None:
    """`model`: as find_model gives it; it is read, which takes a second. Raises ModelError where it is no classifier of
    ImageNet's classes, UsageError where the options do not fit it."""
    classes = read_classifier(model, options).output().get_partial_shape()[1]
    if classes.is_static:
        load_labels(classes.get_length())


def check_flink(cluster: str | None) -> None:
    """Raises MissingError where Java or PyFlink is missing, DeploymentError where no cluster answers at HOST:PORT,
    UsageError for one of another version."""
    if importlib.util.find_spec("pyflink") is None:
        raise MissingError(f"apache-flink {FLINK} is not installed here: run scripts/stream, which sets it up.")
    find_java()
    if cluster:
        version = FlinkRest(cluster).version()
        if not version.startswith(f"{FLINK}."):
            raise UsageError(f"The cluster at {cluster} runs Flink {version}, and this job is for {FLINK}.")
