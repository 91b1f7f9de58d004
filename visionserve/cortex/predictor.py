import importlib.util
import inspect
import logging
import os
import sys
from typing import Any

from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError

CLASS_NAMES = {"tensorflow": "TensorFlowPredictor", "python": "PythonPredictor"}


class Predictor:
    """The user's predictor class, built as Cortex builds it and called with the arguments it names."""

    def __init__(self, spec: ApiSpec, tensorflow_client: Any | None) -> None:
        self._predictor = _build(spec, tensorflow_client)
        _enable_loggers()
        self._predict_takes = _argument_names(self._predictor.predict)
        post_predict = getattr(self._predictor, "post_predict", None)
        self._post_predict_takes = _argument_names(post_predict) if callable(post_predict) else None

    @property
    def has_post_predict(self) -> bool:
        return self._post_predict_takes is not None

    def predict(self, **request: Any) -> Any:
        """request: payload, query_params and headers; `predict` gets those that it names."""
        return self._predictor.predict(**{name: request[name] for name in self._predict_takes if name in request})

    def post_predict(self, **request: Any) -> None:
        """request: response, payload, query_params and headers."""
        assert self._post_predict_takes is not None
        takes = {name: request[name] for name in self._post_predict_takes if name in request}
        self._predictor.post_predict(**takes)


def enter_project(spec: ApiSpec) -> None:
    """Makes this process look as inside Cortex: the project is the working folder and on the import path."""
    os.chdir(spec.project)
    os.environ.update(spec.predictor.env)
    sys.path.insert(0, str(spec.project))
    if spec.predictor.python_path:
        sys.path.insert(0, str(spec.project / spec.predictor.python_path))


def _build(spec: ApiSpec, tensorflow_client: Any | None) -> Any:
    path = spec.project / spec.predictor.path
    module_spec = importlib.util.spec_from_file_location("cortex_predictor", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules["cortex_predictor"] = module
    module_spec.loader.exec_module(module)
    class_name = CLASS_NAMES[spec.predictor.type]
    predictor_class = getattr(module, class_name, None)
    if predictor_class is None:
        raise UsageError(f"{path} has no class {class_name}, which predictor.type: {spec.predictor.type} needs.")
    if not callable(getattr(predictor_class, "predict", None)):
        raise UsageError(f"The class {class_name} in {path} has no method predict.")
    arguments: dict[str, Any] = {"config": spec.predictor.config}
    if spec.predictor.type == "tensorflow":
        arguments["tensorflow_client"] = tensorflow_client
    takes = _argument_names(predictor_class.__init__)
    return predictor_class(**{name: value for name, value in arguments.items() if name in takes})


def _enable_loggers() -> None:
    """Those of the server, which logging.config disables by default where a predictor sets up logging of its own."""
    for name in ("visionserve", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).disabled = False


def _argument_names(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)
