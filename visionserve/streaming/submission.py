from collections.abc import Collection
from pathlib import Path

from visionserve.errors import DeploymentError
from visionserve.streaming.client_rows import ClientRows
from visionserve.streaming.failure import root_cause
from visionserve.streaming.running_job import RunningJob
from visionserve.streaming.settings import StreamSettings
from visionserve.streaming.shipment import Shipment


def submit(
    settings: StreamSettings,
    model: Path,
    images: Collection[str],
    sinks: tuple[Path | None, Path | None],
    folder: Path,
    given: bool,
) -> RunningJob:
    """Starts the job on the cluster; inside java_gateway's block.

    `images`: those to classify, or of a watched folder those that are done; `sinks`: see build_job; `folder`, `given`:
    see flink_environment. Raises DeploymentError where the cluster does not take the job.
    """
    from py4j.protocol import Py4JJavaError

    from visionserve.streaming.flink_environment import flink_environment
    from visionserve.streaming.job import NAME, build_job

    shipment = Shipment(folder / "shipment", model, images)
    try:
        flink = flink_environment(settings, folder, given)
        rows = build_job(flink.streams, settings, shipment, len(images), flink.tasks, sinks)
        iterator = rows._j_data_stream.collectAsync() if rows else None
        client = flink.streams.execute_async(NAME)
    except Py4JJavaError as error:
        raise DeploymentError(f"Flink does not take the job: {root_cause(str(error))}") from error
    return RunningJob(client, flink.rest, ClientRows(settings.format == "jsonl", iterator))
