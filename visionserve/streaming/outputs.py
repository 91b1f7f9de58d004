from pathlib import Path
from types import TracebackType

from visionserve.errors import DeploymentError
from visionserve.streaming.client_rows import ClientRows
from visionserve.streaming.output_folder import OutputFolder
from visionserve.streaming.rest_client import FlinkRest
from visionserve.streaming.settings import StreamSettings


class Outputs:
    """The folders of --output and --broken, where they were given: this run's during a block."""

    def __init__(self, settings: StreamSettings) -> None:
        self._resume = settings.resume
        self._rows = self._broken = None
        if settings.output:
            self._rows = OutputFolder("--output", settings.output, settings.format == "parquet")
        if settings.broken:
            self._broken = OutputFolder("--broken", settings.broken)
        self._folders = [folder for folder in (self._rows, self._broken) if folder]
        self._job_runs = False
        self._before = (0, 0)

    def __enter__(self) -> "Outputs":
        """Raises UsageError where they cannot be used or are not free."""
        try:
            for folder in self._folders:
                folder.take(self._resume)
                folder.convert()
        except BaseException:
            self._release()
            raise
        self._before = self._counts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def sinks(self) -> tuple[Path | None, Path | None]:
        """Where Flink writes rows and broken rows; None for those that come to this process."""
        return self._rows.lines if self._rows else None, self._broken.lines if self._broken else None

    def images(self) -> set[str]:
        """The names of all images that they hold."""
        return set().union(*(folder.images() for folder in self._folders))

    def job_runs(self, rest: FlinkRest, job: str) -> None:
        """From now on the folders are the job's until it has ended."""
        self._job_runs = True
        if not rest.embedded:
            for folder in self._folders:
                folder.tell_job(rest.address, job)

    def convert(self) -> None:
        for folder in self._folders:
            folder.convert()

    def job_ended(self) -> None:
        """What it did not finish is removed."""
        self._job_runs = False
        self.convert()

    def counts(self, client: ClientRows) -> tuple[int, int]:
        """The images that were classified in this run, and the broken ones."""
        rows, broken = (now - before for now, before in zip(self._counts(), self._before, strict=True))
        return rows + client.images, broken + client.broken

    def check_complete(self, missing: int) -> None:
        """Raises DeploymentError where a finished job's rows are not there."""
        if missing and self._folders:
            where = " or ".join(str(folder.path) for folder in self._folders)
            raise DeploymentError(
                f"The job finished, but {missing} of its rows are not in {where}: name folders that all task managers "
                f"and this machine see at the same path."
            )

    def _counts(self) -> tuple[int, int]:
        return self._rows.count() if self._rows else 0, self._broken.count() if self._broken else 0

    def _release(self) -> None:
        for folder in self._folders:
            folder.release(ended=not self._job_runs)
