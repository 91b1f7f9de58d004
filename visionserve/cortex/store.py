import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import platformdirs
import psutil
from pydantic import BaseModel, ValidationError

from visionserve.errors import DeploymentError
from visionserve.files import write_atomically


def state_folder() -> Path:
    return Path(platformdirs.user_state_dir("visionserve"))


class Named(BaseModel):
    """What is known on disk of an API."""

    name: str


R = TypeVar("R", bound=Named)


class Deployment(Named):
    """What is known on disk of a running API. `pid` and `process_created` name its supervisor beyond doubt."""

    run_id: str
    pid: int
    process_created: float
    host: str
    port: int
    control: Path
    log: Path
    spec_file: Path
    engine: str | None
    digest: str
    updated: datetime

    @property
    def endpoint(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def is_running(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            # In a container without an init process, the dead stay listed.
            return process.create_time() == self.process_created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class RecordStore(Generic[R]):
    """Records of this user's APIs, one folder each."""

    def __init__(self, root: Path, record: type[R]) -> None:
        self._root = root
        self._type = record

    def folder(self, name: str) -> Path:
        return self._root / name

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._root.glob("*/deployment.json"))

    def find(self, name: str) -> R | None:
        """Raises DeploymentError where the state file cannot be read."""
        path = self._record(name)
        try:
            return self._type.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise DeploymentError(
                f"The state file {path} cannot be read ({type(error).__name__}): run cortex delete {name}."
            ) from error

    def get(self, name: str) -> R:
        """Raises DeploymentError, with the names there are, for an unknown one."""
        deployment = self.find(name)
        if deployment is None:
            names = self.names()
            known = f"deployed are: {', '.join(names)}" if names else "nothing is deployed"
            raise DeploymentError(f"There is no API named {name}; {known}.")
        return deployment

    def write(self, deployment: R) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._record(deployment.name), deployment.model_dump_json(indent=2).encode(), mode=0o600)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held during a change of an API. Raises DeploymentError at once when another process holds it."""
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(folder / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DeploymentError(
                    f"Another cortex command is changing {name} now: wait for it, then run this again."
                ) from None
            yield

    def _record(self, name: str) -> Path:
        return self._root / name / "deployment.json"


class Store(RecordStore[Deployment]):
    """The deployments of this user on this machine."""

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root or state_folder() / "apis", Deployment)

    def remove(self, name: str, run_id: str | None = None) -> None:
        """Forgets an API; with `run_id` only if that run is still the one on record."""
        if run_id is not None:
            deployment = self.find(name)
            if deployment is None or deployment.run_id != run_id:
                return
        self._record(name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Removes all that is kept of an API that does not run any more, but its log."""
        self._record(name).unlink(missing_ok=True)
        shutil.rmtree(self.folder(name) / "metrics", ignore_errors=True)

    def clear_run(self, deployment: Deployment) -> None:
        """Removes what a supervisor that was killed could not."""
        shutil.rmtree(deployment.control.parent, ignore_errors=True)
