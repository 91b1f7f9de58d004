"""The engine without a server, driven over the pipes of bare_engine.py."""

import subprocess
import sys
from types import TracebackType

from deployment import REPOSITORY
from load import LoadError

BATCHES = (1, 2, 4, 8)


class BareEngine:
    def __init__(self, engine: str, model: str = "resnet50") -> None:
        self._command = [sys.executable, str(REPOSITORY / "benchmarks" / "bare_engine.py"), engine]
        self._command.append(str(REPOSITORY / "models" / model))

    def __enter__(self) -> "BareEngine":
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def images_per_s(self, batch: int, seconds: float) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{batch} {seconds}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise LoadError(f"the bare engine ended with status {self._process.wait()}") from error
