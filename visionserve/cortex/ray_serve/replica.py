import builtins
import logging
import sys
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from visionserve import tracing
from visionserve.cortex.api_key import RequireKey
from visionserve.cortex.app import ApiApp
from visionserve.cortex.host import REMOTE_TIMEOUT
from visionserve.cortex.in_flight import Count
from visionserve.cortex.local_models import local_models
from visionserve.cortex.metrics import RequestMetrics
from visionserve.cortex.predictor import Predictor, enter_project
from visionserve.cortex.ray_serve.client import BatchingClient
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.tracing import traced_application
from visionserve.errors import DeploymentError, VisionserveError
from visionserve.inference.client import ServingClient


class Replica:
    """One replica of an API in a process of Ray Serve's: its models behind batchers, its predictors, its HTTP side.

    It has processes_per_replica predictors, each with threads of its own, in this one process.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """settings: a ReplicaSettings as data. Raises DeploymentError, one sentence, when it cannot start."""
        try:
            self._build(ReplicaSettings.model_validate(settings))
        except VisionserveError as error:
            raise DeploymentError(str(error)) from error

    def describe(self) -> dict[str, Any]:
        """What `cortex deploy` says of the replica: its engine, None for a predictor without models."""
        return {"engine": self._engine}

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._application

    def _build(self, settings: ReplicaSettings) -> None:
        _log_with_serve()
        spec = _placed(settings)
        enter_project(spec)
        tracing.start(spec.name)
        client: Any = None
        self._engine: str | None = None
        if settings.remote is not None:
            self._engine = "TensorFlow Serving"
            client = ServingClient(settings.remote.address, settings.remote.signatures)
            client.wait_until_available(REMOTE_TIMEOUT)
        else:
            models, _ = local_models(spec, settings.engine, settings.on_cpu, settings.threads)
            if models:
                self._engine = ", ".join(sorted({model.engine for model in models}))
                client = BatchingClient(models)
        predictors = [_predictor(spec, client) for _ in range(spec.predictor.processes_per_replica)]
        if "cv2" in sys.modules:
            # The threads of the predictors are the concurrency; OpenCV's own would only fight over the same cores.
            sys.modules["cv2"].setNumThreads(1)
        metrics = RequestMetrics(spec.name, self._engine)
        api = ApiApp(spec, self._engine, predictors, client, Count(), metrics, autoscaled=True)
        application = traced_application(api.application())
        # Access lines and request ids are Serve's own.
        self._application = _Mounted(RequireKey(application, settings.api_keys) if settings.api_keys else application)


class _Mounted:
    """An application that knows nothing of the prefix that it is served under."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
            scope = {**scope, "root_path": "", "path": path or "/"}
        await self._application(scope, receive, send)


def _predictor(spec: ApiSpec, client: Any) -> Predictor:
    try:
        return Predictor(spec, client)
    except VisionserveError:
        raise
    except SystemExit as error:
        # Of it Ray would only say that the process died unexpectedly.
        raise DeploymentError(
            f"{spec.predictor.path} ended its process while it was set up: sys.exit({error.code!r})"
        ) from error
    except Exception as error:
        logging.getLogger("visionserve").exception("the predictor could not be set up")
        raise DeploymentError(
            f"{spec.predictor.path} failed while it was set up: {type(error).__name__}: {error}"
        ) from error


def _placed(settings: ReplicaSettings) -> ApiSpec:
    """The spec with its paths as they are on this node."""
    spec = settings.spec
    predictor = spec.predictor
    changes: dict[str, Any] = {}
    if predictor.model_path in settings.packages:
        changes["model_path"] = _place(settings, predictor.model_path)
    if predictor.models is not None:
        folder = predictor.models.dir
        paths = tuple(
            model.model_copy(update={"model_path": _place(settings, model.model_path)})
            for model in predictor.models.paths
        )
        models = predictor.models.model_copy(update={"dir": folder and _place(settings, folder), "paths": paths})
        changes["models"] = models
    project = Path.cwd() / settings.project
    return spec.model_copy(update={"project": project, "predictor": predictor.model_copy(update=changes)})


def _place(settings: ReplicaSettings, location: str) -> str:
    uri = settings.packages.get(location)
    if uri is None:
        return location
    # Ray unpacks a package into a folder of its name and puts that on the import path.
    name = Path(uri).stem
    found = next((Path(entry) for entry in sys.path if Path(entry).name == name), None)
    if found is None:
        raise DeploymentError(f"Ray did not bring {location} ({uri}) to this node: deploy the API again with --force.")
    return str(next(folder for folder in found.iterdir() if folder.is_dir()))


def _log_with_serve() -> None:
    """What visionserve and the predictor log goes where Serve's own lines of this replica go, and what they print."""
    from ray.serve._private import logging_utils

    # Serve's own print writes its arguments as a tuple to any other file, io.StringIO of logging's tracebacks included,
    # and an empty line after each print to its log. The real one comes there through sys.stdout, which Serve replaces.
    builtins.print = getattr(logging_utils, "buildin_print", builtins.print)
    serve = logging.getLogger("ray.serve")
    for handler in serve.handlers:
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
