import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from visionserve.cortex.api_key import VARIABLE, is_loopback
from visionserve.cortex.delete import end_strays
from visionserve.cortex.devices import check_devices
from visionserve.cortex.digest import digest_of
from visionserve.cortex.disk import explained, open_private
from visionserve.cortex.local_models import local_models
from visionserve.cortex.local_support import local_notes
from visionserve.cortex.log_format import LogFormat
from visionserve.cortex.processes import marks
from visionserve.cortex.remote_models import RemoteModels, remote_models
from visionserve.cortex.settings import RunSettings
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.store import RUN_PREFIX, Deployment, Store
from visionserve.errors import DeploymentError, UsageError
from visionserve.inference.model_settings import ModelSettings

START_TIMEOUT = 300.0
# The address of a Unix socket holds 108 bytes.
LONGEST_FOLDER = 80
# What the processes of an API open themselves, and connections enough to be of use.
FEWEST_OPEN_FILES = 64


@dataclass(frozen=True)
class DeployOptions:
    """What the command line adds to a spec. `port`: None takes the spec's; `on_cpu`: --compute cpu.

    `tensorflow_serving`: HOST:PORT[/MODEL] of a server elsewhere, which then runs the models; `api_keys`: the
    digests of the keys, one of which a request needs, none for an open API.
    """

    engine: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None
    force: bool = False
    on_cpu: bool = False
    tensorflow_serving: str | None = None
    api_keys: tuple[str, ...] = ()
    log_format: LogFormat = "text"
    access_log: bool = True


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
    _check_open_files()
    models, remote, notes = _models(spec, options)
    notes = [*local_notes(spec), *notes, *_open_notes(spec, options)]
    with store.lock(spec.name):
        previous, lost = _previous(spec.name, store)
        notes += lost
        if previous is not None and previous.has_keys and not options.api_keys:
            raise UsageError(
                f"{spec.name} is deployed with API keys: name their file with --api-key-file or set {VARIABLE}; to "
                f"open it to all, run cortex delete {spec.name} first."
            )
        if previous is not None and not previous.is_running():
            previous = None
        end_strays(spec.name, store, previous)
        store.clean_up(spec.name)
        wished_port, port = _ports(spec, options, previous)
        if previous is not None and wished_port != port == previous.port:
            notes.append(
                f"Port {wished_port} was in use: {spec.name} stays at {port}, where its clients find it (to try again, "
                f"cortex delete {spec.name} first)."
            )
        served = (options.api_keys, options.log_format, options.access_log)
        digest = digest_of(spec, models, options.on_cpu, remote, served)
        same_place = previous is not None and (previous.host, previous.port) == (options.host, port)
        if previous is not None and previous.digest == digest and same_place and not options.force:
            return Outcome(previous, "unchanged", notes)
        with explained(store.folder(spec.name)):
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
            wished_port=wished_port,
            start_timeout=START_TIMEOUT,
            api_keys=list(options.api_keys),
            log_format=options.log_format,
            access_log=options.access_log,
            folder=folder,
            state=store.folder(spec.name),
            umask=_umask(),
        )
        try:
            with explained(folder):
                _start(run)
        except BaseException:
            store.clean_up(spec.name)
            raise
        deployment = store.get(spec.name)
        if deployment.port != port:
            notes.append(f"Port {port} is in use: serving on the next free one, {deployment.port}.")
        return Outcome(deployment, "updated" if previous else "created", notes)


def _ports(spec: ApiSpec, options: DeployOptions, previous: Deployment | None) -> tuple[int, int]:
    """The port asked for, and the one to take: that of the run before, unless another is asked for than then."""
    wished = options.port or spec.networking.local_port
    if previous is None:
        return wished, wished
    wished_before = previous.wished_port or previous.port
    if options.port is None and "networking.local_port" not in spec.explicit:
        wished = wished_before
    return wished, previous.port if wished == wished_before else wished


def _previous(name: str, store: Store) -> tuple[Deployment | None, list[str]]:
    """What is on record, and a note where that said nothing and has been removed. Raises DeploymentError."""
    try:
        return store.find(name), []
    except DeploymentError:
        file = store.discard_nonsense(name)
        if file is None:
            raise
        return None, [f"The state file {file} was no record of an API: what it said is not known any more."]


def _open_notes(spec: ApiSpec, options: DeployOptions) -> list[str]:
    if options.api_keys or is_loopback(options.host):
        return []
    return [f"Whoever reaches {options.host} can ask {spec.name}: --api-key-file keeps strangers out."]


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
    with open(open_private(run.file, os.O_WRONLY), "w") as file:
        file.write(run.model_dump_json())
    log_descriptor = open_private(run.log, os.O_WRONLY | os.O_APPEND)
    read, write = os.pipe()
    mine = marks(run.state, run.folder)
    with open(log_descriptor, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "visionserve.cortex.supervisor", str(run.file), "--report", str(write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write,),
            # The key is for clients: no process of the API needs it, only its digest.
            env={**{name: value for name, value in os.environ.items() if name != VARIABLE}, **mine},
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


def _check_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_OPEN_FILES:
        raise DeploymentError(
            f"A process of this user may open {hard} files, and one of an API needs {FEWEST_OPEN_FILES} and one for "
            "each connection: raise the limit (ulimit -Hn)."
        )


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _run_folder(state: Path) -> Path:
    parent = state if len(os.fsencode(state)) < LONGEST_FOLDER else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=parent))
