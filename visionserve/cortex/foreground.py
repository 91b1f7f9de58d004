"""The APIs that a command deploys and stays with: their logs until they or the command are ended."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from visionserve.cortex.environments import delete, log_lines
from visionserve.cortex.log_file import POLL_SECONDS, LogReader
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError


class Foreground(AbstractContextManager["Foreground"]):
    """Deletes at its end, however that comes, the APIs that are its own.

    To be made before the first is deployed: what their logs get from then on is shown.
    """

    def __init__(self, names: Sequence[str], environment: str, warn: Callable[[str], None]) -> None:
        """`warn`: is told why an API could not be deleted."""
        self._environment = environment
        self._warn = warn
        self._names = list(names)
        self._deployed: list[str] = []
        store = Store()
        self._apis = [_Followed(name, store) for name in names] if environment == "local" else []

    def deploy(self, spec: ApiSpec, deploy_one: Callable[[ApiSpec], Any]) -> Any:
        """The outcome. The API is this command's from now on, unless it has run unchanged all along."""
        outcome = deploy_one(spec)
        if outcome.action != "unchanged":
            self._deployed.append(spec.name)
        return outcome

    def show(self, write: Callable[[str], None]) -> None:
        """Gives the lines of all the logs, until Ctrl-C; all the APIs are this command's from now on.

        Raises DeploymentError when one of them does not run any more, whatever has ended it. On Ray, where the log of
        the first alone is shown, nothing is noticed but that.
        """
        self._deployed = self._names
        if self._environment != "local":
            for line in log_lines(self._names[0], self._environment, follow=True):
                write(line)
            return
        while True:
            ends = {api.name: end for api in self._apis if (end := api.end())}
            for api in self._apis:
                for line in api.lines():
                    write(_of(api.name, line) if len(self._apis) > 1 else line)
            if ends:
                raise DeploymentError(" ".join(ends.values()))
            time.sleep(POLL_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Another one must not end this process before what it has started; that takes no longer than its grace.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for name in self._deployed:
            if self._environment == "local" and name not in Store().names():
                continue
            # One that another command has deleted must not keep the others running.
            try:
                delete(name, self._environment)
            except DeploymentError as failure:
                self._warn(f"Error: {failure}")


class _Followed:
    """An API on this machine, whose log is read from now on."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store
        self._log = LogReader(store.folder(name) / "api.log")
        self._log.skip()
        self._deployment: Deployment | None = None

    def lines(self) -> Iterator[str]:
        return self._log.new()

    def end(self) -> str | None:
        """Why it does not run any more; None while it does, also after an update by another command."""
        if self._deployment is not None and self._deployment.is_running():
            return None
        try:
            self._deployment = self._store.find(self.name)
        except DeploymentError as error:
            return str(error)
        if self._deployment is None:
            return f"{self.name} was ended by something else than this command, such as cortex delete."
        if not self._deployment.is_running():
            pid = self._deployment.pid
            return f"{self.name} does not run any more: its supervisor (process {pid}) was killed."
        return None


def _of(name: str, line: str) -> str:
    """With the API's name; in a line of JSON it is a field of it."""
    return f'{{"api": {json.dumps(name)}, {line[1:]}' if line.startswith('{"') else f"{name}: {line}"
