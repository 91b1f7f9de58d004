"""https://nightlies.apache.org/flink/flink-docs-stable/docs/deployment/config/"""

import os
from pathlib import Path
from typing import Any

from pyflink.common import Configuration

from visionserve.streaming.settings import StreamSettings

# Flink sends a worker so many images and waits until all are done: enough to hide that, and few enough for a checkpoint
# to wait no longer than a few seconds.
BUNDLE = 64
# Seconds until a bundle that does not fill up is sent.
BUNDLE_SECONDS = 0.2


def flink_options(settings: StreamSettings, python: str | None, rest_port: int | None, folder: Path) -> Configuration:
    """What Flink is told of the job, and of an embedded cluster.

    `python`: the workers', None where another chose it; `rest_port`: for an embedded cluster, None where there is
    another; `folder`: for what that one keeps for a time.
    """
    options: dict[str, Any] = {
        "execution.checkpointing.interval": f"{round(settings.checkpoint_interval * 1000)} ms",
        "execution.checkpointing.min-pause": f"{round(settings.checkpoint_interval * 500)} ms",
        "execution.checkpointing.tolerable-failed-checkpoints": 3,
        # A job has two and a half minutes to get another task manager, as a cluster without a spare one refuses it at
        # once. When it has run for long enough again, it has them anew.
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "2 s",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 2,
        "restart-strategy.exponential-delay.jitter-factor": 0,
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": 8,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "5 min",
        "python.fn-execution.bundle.size": BUNDLE,
        "python.fn-execution.bundle.time": round(BUNDLE_SECONDS * 1000),
    }
    if python:
        options["python.executable"] = python
    if settings.checkpoint_folder:
        options["execution.checkpointing.storage"] = "filesystem"
        options["execution.checkpointing.dir"] = settings.checkpoint_folder
    if settings.cluster:
        host, _, port = settings.cluster.rpartition(":")
        options |= {"execution.target": "remote", "rest.address": host.strip("[]"), "rest.port": port}
        options["pipeline.jars"] = _python_jar().as_uri()
    elif rest_port:
        options |= {"rest.address": "127.0.0.1", "rest.bind-address": "127.0.0.1"}
        options |= {"rest.port": rest_port, "rest.bind-port": rest_port}
        options |= {"io.tmp.dirs": folder, "metrics.fetcher.update-interval": "1000 ms"}
    configuration = Configuration()
    for key, value in options.items():
        configuration.set_string(key, str(value))
    return configuration


def _python_jar() -> Path:
    """Flink's own for Python, which `flink run -py` also sends along."""
    from pyflink.pyflink_gateway_server import _find_flink_home

    folder = os.environ.get("FLINK_OPT_DIR") or os.path.join(_find_flink_home(), "opt")
    return next(Path(folder).absolute().glob("flink-python-*.jar"))
