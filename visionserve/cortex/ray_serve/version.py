import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionserve import __version__
from visionserve.cortex.log_format import LogFormat
from visionserve.cortex.ray_serve.mapping import Resources
from visionserve.cortex.ray_serve.packages import Package, model_packages, own_package, project_package
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.cortex.remote_models import remote_models
from visionserve.cortex.replica import WORKER_ENVIRONMENT
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError

# Serve then writes what a predictor prints to the log of its replica.
LOGGED = {"RAY_SERVE_LOG_TO_STDERR": "0"}


@dataclass(frozen=True)
class RayOptions:
    """What the command line adds to a spec. `host` and `port`: of Serve's proxies, None for those it has; `api_keys`:
    as in DeployOptions."""

    engine: str = "auto"
    host: str | None = None
    port: int | None = None
    force: bool = False
    on_cpu: bool = False
    tensorflow_serving: str | None = None
    api_keys: tuple[str, ...] = ()
    log_format: LogFormat = "text"
    access_log: bool = True

    @property
    def without_devices(self) -> bool:
        """The replicas need no GPU and no Inferentia chip, whatever the spec says."""
        return self.on_cpu or self.engine == "null" or self.tensorflow_serving is not None


@dataclass(frozen=True)
class Version:
    """One version of an API, whole: what its replicas are told, and the packages that they start from.

    uris: of the packages: the project's, visionserve's own, and the models'.
    """

    settings: ReplicaSettings
    packages: list[Package]
    uris: list[str]

    def digest(self, reserved: Resources) -> str:
        """Changes when anything does that a new deployment would run differently."""
        told = self.settings.model_dump_json(exclude={"spec": {"explicit"}})
        return hashlib.sha256(f"{__version__} {sys.version} {told} {self.uris} {reserved}".encode()).hexdigest()


@contextmanager
def version_of(spec: ApiSpec, options: RayOptions) -> Iterator[Version]:
    """Its packages are there for the block. Raises ModelError, UsageError or DeploymentError."""
    if options.log_format != "text" or not options.access_log:
        raise UsageError(
            "--log-format and --no-access-log are for --env local: on Ray, Serve writes the access lines, and its "
            "logging_config says how."
        )
    remote = None
    models: dict[str, Package] = {}
    if options.tensorflow_serving is not None:
        if options.engine != "auto" or options.on_cpu:
            raise UsageError("--engine and --compute choose what runs the models; --tensorflow-serving runs them.")
        remote = remote_models(spec, options.tensorflow_serving)
    elif options.engine != "null":
        models = model_packages(spec, options.on_cpu)
    with tempfile.TemporaryDirectory(prefix="visionserve-") as staging:
        project = project_package(spec, [package.folder for package in models.values()], Path(staging))
        packages = [project, own_package(), *models.values()]
        uris = [package.uri for package in packages]
        settings = ReplicaSettings(
            spec=spec,
            engine=options.engine,
            on_cpu=options.on_cpu,
            remote=remote,
            packages=dict(zip(models, uris[2:], strict=True)),
            api_keys=list(options.api_keys),
        )
        yield Version(settings, packages, uris)


def runtime_env(uris: list[str]) -> dict[str, Any]:
    """Ray's runtime environment of a replica. `uris`: as Version has them."""
    return {"working_dir": uris[0], "py_modules": uris[1:], "env_vars": {**WORKER_ENVIRONMENT, **LOGGED}}
