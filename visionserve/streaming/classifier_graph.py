"""An image classifier's graph, whatever made it -> one that takes the pixels as they are decoded."""

from pathlib import Path
from typing import Any

from visionserve.errors import MissingError, ModelError, UsageError
from visionserve.models.builds.manifest import read_manifest
from visionserve.quiet_openvino import import_openvino
from visionserve.streaming.model_options import ModelOptions
from visionserve.streaming.model_types import TYPES_OF_BUILDS, preprocessing_of


def openvino() -> Any:
    """Raises MissingError where it is not installed."""
    try:
        return import_openvino()
    except ImportError as error:
        raise MissingError(f"OpenVINO is not installed ({error}): run pip install openvino.") from error


def read_classifier(path: Path, options: ModelOptions) -> Any:
    """`path`: a SavedModel's folder, or an OpenVINO model.xml -> an openvino.Model that takes one uint8 RGB
    [N, H, W, 3], N being open, and gives one [N, K].

    A model of floats gets `options`' preprocessing in front, and what they leave out by its type. One of uint8 prepares
    the pixels itself: options that say otherwise are refused. Raises ModelError for what is no classifier or does not
    load, UsageError for options that do not fit it.
    """
    try:
        graph = openvino().Core().read_model(path)
    except RuntimeError as error:
        why = reason(error)
        # https://github.com/openvinotoolkit/openvino/issues/25346
        if "VarHandleOp" in why:
            why = "it does not find its variables, as with models that Keras 3 exports; save it with constants instead"
        raise ModelError(f"OpenVINO cannot read {path}: {why}.") from error
    try:
        return _of_pixels(_with_one_output(_with_shape(graph, path, options), path), path, options)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot make {path} take pixels of --inputShape {options.shape_text}: {reason(error)}"
        ) from error


def reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's messages; those before it are places in its source."""
    return str(error).strip().splitlines()[-1].strip()


def _with_shape(graph: Any, path: Path, options: ModelOptions) -> Any:
    if len(graph.inputs) != 1:
        raise ModelError(f"{path} takes {len(graph.inputs)} inputs, where a classifier of images takes one.")
    shape = graph.input().get_partial_shape()
    if shape.rank.is_static and len(shape) != 4:
        raise ModelError(
            f"{path} takes {_text(shape)}, where a classifier of images takes [N, H, W, 3] or [N, 3, H, W]."
        )
    wanted = openvino().PartialShape([-1, *options.input_shape[1:]])
    if not shape.compatible(wanted) and not (shape[0].is_static and _open(shape).compatible(wanted)):
        fitting = ",".join("1" if size.is_dynamic else str(size.get_length()) for size in shape)
        raise UsageError(f"{path} takes {_text(shape)}: give --inputShape {fitting}, not {options.shape_text}.")
    if shape != wanted:
        graph.reshape(wanted)
    return graph


def _with_one_output(graph: Any, path: Path) -> Any:
    found = [port for port in graph.outputs if _gives_probabilities(port)]
    if len(found) != 1:
        given = " and ".join(
            f"{port.get_element_type().to_string()} {_text(port.partial_shape)}" for port in graph.outputs
        )
        raise ModelError(f"{path} gives {given}, where a classifier gives one float [N, K].")
    if len(graph.outputs) > 1:
        return openvino().Model([found[0]], graph.get_parameters())
    return graph


def _gives_probabilities(port: Any) -> bool:
    shape = port.get_partial_shape()
    if not port.get_element_type().is_real() or shape.rank.is_dynamic or len(shape) != 2:
        return False
    return bool(shape[0].is_dynamic and shape[1].is_static)


def _of_pixels(graph: Any, path: Path, options: ModelOptions) -> Any:
    given = options.preprocessing
    typical = preprocessing_of(_type(path, options))
    element_type = graph.input().get_element_type()
    takes_pixels = element_type == openvino().Type.u8
    if not takes_pixels and not element_type.is_real():
        raise ModelError(
            f"{path} takes {element_type.to_string()}, where a classifier of images takes uint8 or floats."
        )
    if takes_pixels and (wrong := given.contradictions(typical)):
        raise UsageError(
            f"{path} takes pixels and prepares them itself, by {typical}, which {' '.join(wrong)} contradicts: leave "
            f"the option out."
        )
    if takes_pixels and options.layout == "NHWC":
        return graph
    processor = openvino().preprocess.PrePostProcessor(graph)
    layout = openvino().Layout
    processor.input().tensor().set_element_type(openvino().Type.u8).set_layout(layout("NHWC"))
    processor.input().model().set_layout(layout(options.layout))
    if not takes_pixels:
        wanted = given.completed(typical)
        steps = processor.input().preprocess().convert_element_type(openvino().Type.f32)
        # Ours come in red, green, blue, which is what the model sees when those of OpenCV are reversed.
        if not wanted.reverse_channels:
            steps.reverse_channels()
        steps.mean(list(wanted.mean_values)).scale(wanted.scale)
    return processor.build()


def _type(path: Path, options: ModelOptions) -> str:
    """The type of one of visionserve's own builds by its model.json, else what the options say."""
    try:
        built = read_manifest(path if path.is_dir() else path.parent).model
    except ModelError:
        return options.model_type
    actual = TYPES_OF_BUILDS.get(built, options.model_type)
    if actual != options.model_type:
        raise UsageError(f"{path} is a build of {built}: give --modelType {actual}, not {options.model_type}.")
    return actual


def _open(shape: Any) -> Any:
    return openvino().PartialShape([-1, *list(shape)[1:]])


def _text(shape: Any) -> str:
    if shape.rank.is_dynamic:
        return "any shape"
    return "[" + ", ".join("N" if size.is_dynamic else str(size.get_length()) for size in shape) + "]"
