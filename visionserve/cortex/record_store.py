"""Records of APIs on disk: what they share wherever the APIs run."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import platformdirs
from pydantic import BaseModel, ValidationError

from visionserve.cortex.disk import PRIVATE_FILE, explained, make_private_folder, open_private
from visionserve.errors import DeploymentError
from visionserve.files import write_atomically


def state_folder() -> Path:
    return Path(platformdirs.user_state_dir("visionserve"))


class Named(BaseModel):
    """What is known on disk of an API."""

    name: str


R = TypeVar("R", bound=Named)


class RecordStore(Generic[R]):
    """Records of this user's APIs, one folder each."""

    def __init__(self, root: Path, record: type[R]) -> None:
        # By whatever path it is named: runs are known by that of their folder.
        self._root = root.resolve()
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
            why = error.strerror if isinstance(error, OSError) else "it is no record of an API"
            raise DeploymentError(f"The state file {path} cannot be read ({why}): run cortex delete {name}.") from error

    def get(self, name: str) -> R:
        """Raises DeploymentError, with the names there are, for an unknown one."""
        deployment = self.find(name)
        if deployment is None:
            names = self.names()
            known = f"deployed are: {', '.join(names)}" if names else "nothing is deployed"
            raise DeploymentError(f"There is no API named {name}; {known}.")
        return deployment

    def write(self, deployment: R) -> None:
        """Raises DeploymentError where the state folder cannot be written."""
        record = self._record(deployment.name)
        with explained(record.parent):
            make_private_folder(record.parent)
            write_atomically(record, deployment.model_dump_json(indent=2).encode(), mode=PRIVATE_FILE)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held during a change of an API. Raises DeploymentError at once when another process holds it, or where the
        state folder cannot be written."""
        folder = self.folder(name)
        with explained(folder):
            for private in (self._root.parent, self._root, folder):
                make_private_folder(private)
            descriptor = open_private(folder / "lock", os.O_WRONLY)
        with open(descriptor, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DeploymentError(
                    f"Another cortex command is changing {name} now: wait for it, then run this again."
                ) from None
            yield

    def _record(self, name: str) -> Path:
        return self._root / name / "deployment.json"
