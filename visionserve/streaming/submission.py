from collections.abc import Collection
from pathlib import Path

from visionserve.errors import DeploymentError
from visionserve.streaming.client_rows import ClientRows
from visionserve.streaming.failure import root_cause
from visionserve.streaming.running_job import RunningJob
from visionserve.streaming.settings import StreamSettings
from visionserve.streaming.shipment import Shipment


class Submission:
    """A job that is put together; made and started inside java_gateway's block. Raises DeploymentError where Flink does
    not take it."""

    def __init__(
        self,
        settings: StreamSettings,
        model: Path,
        images: Collection[str],
        sinks: tuple[Path | None, Path | None],
        folder: Path,
        given: bool,
    ) -> None:
        """`images`: those to classify, or of a watched folder those that are done; `sinks`: see build_job; `folder`,
        `given`: see flink_environment."""
        from py4j.protocol import Py4JJavaError

        from visionserve.streaming.flink_environment import flink_environment
        from visionserve.streaming.job import build_job

        shipment = Shipment(folder / "shipment", model, images)
        try:
            self._flink = flink_environment(settings, folder, given)
            rows = build_job(self._flink.streams, settings, shipment, len(images), self._flink.tasks, sinks)
            self._rows = rows._j_data_stream.collectAsync() if rows else None
        except Py4JJavaError as error:
            raise _refused(error) from error
        self._as_lines = settings.format == "jsonl"

    def start(self) -> RunningJob:
        from py4j.protocol import Py4JJavaError

        from visionserve.streaming.job import NAME

        try:
            client = self._flink.streams.execute_async(NAME)
        except Py4JJavaError as error:
            raise _refused(error) from error
        return RunningJob(client, self._flink.rest, ClientRows(self._as_lines, self._rows))


def _refused(error: Exception) -> DeploymentError:
    return DeploymentError(f"Flink does not take the job: {root_cause(str(error))}")
