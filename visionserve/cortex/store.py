import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from visionserve.cortex import control
from visionserve.cortex.disk import explained
from visionserve.cortex.processes import RunProcesses, kill, living_runs, supervises
from visionserve.cortex.record_store import Named, RecordStore, state_folder
from visionserve.errors import DeploymentError

RUN_PREFIX = "run-"


class Deployment(Named):
    """What is known on disk of a running API. `pid`: its supervisor's; `control`: a socket in the run's folder;
    `has_keys`: its requests need a key; `wished_port`: the one asked for, None in a record of an older version."""

    run_id: str
    pid: int
    host: str
    port: int
    wished_port: int | None = None
    control: Path
    log: Path
    spec_file: Path
    engine: str | None
    digest: str
    has_keys: bool = False
    updated: datetime

    @property
    def endpoint(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def folder(self) -> Path:
        return self.control.parent

    def is_running(self) -> bool:
        return supervises(self.pid, self.folder)


class Store(RecordStore[Deployment]):
    """The deployments of this user on this machine, by their records and by their processes."""

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root or state_folder() / "apis", Deployment)

    def names(self) -> list[str]:
        """With those that run though their record is gone."""
        running = {run.state.name for run in living_runs(self._root) if run.supervisor}
        return sorted({*super().names(), *running})

    def find(self, name: str) -> Deployment | None:
        """What runs, as its supervisor says where the record cannot; else what the record says of what ran."""
        failure = deployment = None
        try:
            deployment = super().find(name)
        except DeploymentError as error:
            failure = error
        if deployment is not None and deployment.is_running():
            return deployment
        for run in self._runs(name):
            if run.supervisor and (said := _said_by_supervisor(run)):
                return said
        if failure is not None:
            raise failure
        return deployment

    def remove(self, name: str, run_id: str) -> None:
        """Forgets an API if that run is still the one on record. Raises DeploymentError where its record cannot be
        read or removed."""
        deployment = super().find(name)
        if deployment is not None and deployment.run_id == run_id:
            with explained(self.folder(name)):
                self._record(name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Removes all that is kept of an API that does not run any more, but its log. Raises DeploymentError."""
        record = self._record(name)
        with explained(self.folder(name)):
            if record.is_dir():
                shutil.rmtree(record)
            else:
                record.unlink(missing_ok=True)
        shutil.rmtree(self.folder(name) / "metrics", ignore_errors=True)

    def discard_nonsense(self, name: str) -> Path | None:
        """Removes a record that says nothing, and gives its path; None for one that does or that cannot be read."""
        record = self._record(name)
        try:
            Deployment.model_validate_json(record.read_bytes())
        except (ValidationError, IsADirectoryError):
            self.forget(name)
            return record
        except OSError:
            return None
        return None

    def clean_up(self, name: str) -> None:
        """Removes what supervisors that were killed could not: the processes that they left, and their runs' folders.

        Only under the lock: a run that is just being started has no process yet.
        """
        runs = self._runs(name)
        kill(process for run in runs if not run.supervisor for process in run.others)
        in_use = {run.folder for run in runs if run.supervisor}
        abandoned = {run.folder for run in runs if not run.supervisor} | set(self.folder(name).glob(f"{RUN_PREFIX}*"))
        with suppress(DeploymentError):
            recorded = super().find(name)
            # A record is only text: nothing but a run's folder may go by its word.
            if recorded is not None and recorded.folder.name.startswith(RUN_PREFIX):
                # One that an older version has deployed may name its folder by another path.
                (in_use if recorded.is_running() else abandoned).add(recorded.folder.resolve())
        for folder in abandoned - in_use:
            shutil.rmtree(folder, ignore_errors=True)

    def strays(self, name: str, known: Deployment | None) -> list[RunProcesses]:
        """Runs of an API, other than the one that is known, whose supervisors have not been told to end: those of a
        command that was killed, and those whose folder was taken away."""
        others = [run for run in self.supervised(name) if known is None or run.folder != known.folder]
        return [run for run in others if _status(run) != "stopping"]

    def supervised(self, name: str) -> list[RunProcesses]:
        """The runs of an API that have a supervisor: the living one, those that drain, those that start."""
        return [run for run in self._runs(name) if run.supervisor]

    def _runs(self, name: str) -> list[RunProcesses]:
        return [run for run in living_runs(self._root) if run.state == self.folder(name)]


def _said_by_supervisor(run: RunProcesses) -> Deployment | None:
    """Its record, which it writes anew; None from one that starts or ends, or that does not answer."""
    try:
        return Deployment.model_validate(control.ask(run.folder / control.SOCKET, "record"))
    except (DeploymentError, ValidationError):
        return None


def _status(run: RunProcesses) -> str | None:
    try:
        return control.ask(run.folder / control.SOCKET, "status").get("status")
    except DeploymentError:
        return None
