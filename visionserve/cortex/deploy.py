import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from visionserve.cortex.devices import check_devices
from visionserve.cortex.digest import digest_of
from visionserve.cortex.local_models import local_models
from visionserve.cortex.local_support import local_notes
from visionserve.cortex.remote_models import RemoteModels, remote_models
from visionserve.cortex.settings import RunSettings
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError, UsageError
from visionserve.inference.served_model import ModelSettings

START_TIMEOUT = 300.0
# The address of a Unix socket holds 108 bytes.
LONGEST_FOLDER = 80


@dataclass(frozen=True)
class DeployOptions:
    """What the command line adds to a spec. `port`: None takes the spec's; `on_cpu`: --compute cpu.

    `tensorflow_serving`: HOST:PORT[/MODEL] of a server elsewhere, which then runs the models.
    """

    engine: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None
    force: bool = False
    on_cpu: bool = False
    tensorflow_serving: str | None = None


@dataclass(frozen=True)
class Outcome:
    """`action`: created, updated or unchanged."""

    deployment: Deployment
    action: str
    notes: list[str] = field(default_factory=list)


def deploy(spec: ApiSpec, options: DeployOptions, store: Store) -> Outcome:
    """Starts or rolls an API and returns when it is live; when that fails, a running one goes on as it was.

    Raises DeploymentError, ModelError or MissingError with the reason.
    """
    models, remote, notes = _models(spec, options)
    notes = [*local_notes(spec), *notes]
    with store.lock(spec.name):
        previous = store.find(spec.name)
        if previous is not None and not previous.is_running():
            store.clear_run(previous)
            previous = None
        port = options.port or spec.networking.local_port
        if previous is not None and options.port is None and "networking.local_port" not in spec.explicit:
            port = previous.port
        digest = digest_of(spec, models, options.on_cpu, remote)
        same_place = previous is not None and (previous.host, previous.port) == (options.host, port)
        if previous is not None and previous.digest == digest and same_place and not options.force:
            return Outcome(previous, "unchanged", notes)
        folder = _run_folder(store.folder(spec.name))
        run = RunSettings(
            id=secrets.token_hex(8),
            spec=spec,
            digest=digest,
            engine="TensorFlow Serving" if remote else ", ".join(sorted({model.engine for model in models})) or None,
            models=models,
            remote=remote,
            host=options.host,
            port=port,
            start_timeout=START_TIMEOUT,
            folder=folder,
            state=store.folder(spec.name),
        )
        _start(run)
        deployment = store.get(spec.name)
        if deployment.port != port:
            notes.append(f"Port {port} is in use: serving on the next free one, {deployment.port}.")
        return Outcome(deployment, "updated" if previous else "created", notes)


def _models(spec: ApiSpec, options: DeployOptions) -> tuple[list[ModelSettings], RemoteModels | None, list[str]]:
    if options.tensorflow_serving is not None:
        if options.engine != "auto" or options.on_cpu:
            raise UsageError("--engine and --compute choose what runs the models here; --tensorflow-serving runs them.")
        return [], remote_models(spec, options.tensorflow_serving), []
    if not options.on_cpu and options.engine != "null":
        check_devices(spec)
    models, notes = local_models(spec, options.engine, options.on_cpu)
    return models, None, notes


def _start(run: RunSettings) -> None:
    run.file.touch(mode=0o600)
    run.file.write_text(run.model_dump_json())
    read, write = os.pipe()
    with open(run.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "visionserve.cortex.supervisor", str(run.file), "--report", str(write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write,),
            start_new_session=True,
        )
    os.close(write)
    try:
        with open(read, "rb") as report:
            line = report.readline()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if not line:
        raise DeploymentError(f"The supervisor of {run.spec.name} ended with code {process.wait()}: see {run.log}.")
    message = json.loads(line)
    if message["event"] == "failed":
        process.wait()
        raise DeploymentError(
            f"{run.spec.name} was not deployed: {message['error']} (log: cortex logs {run.spec.name})"
        )


def _run_folder(state: Path) -> Path:
    parent = state if len(str(state)) < LONGEST_FOLDER else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix="run-", dir=parent))
