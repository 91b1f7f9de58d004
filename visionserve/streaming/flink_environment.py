import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import get_j_env_configuration

from visionserve.environment import environment
from visionserve.streaming.flink_options import flink_options
from visionserve.streaming.rest_client import DEFAULT_PORT, FlinkRest
from visionserve.streaming.settings import StreamSettings


@dataclass(frozen=True)
class FlinkEnvironment:
    """Where a job is put together and sent to.

    `streams`: PyFlink's StreamExecutionEnvironment; `tasks`: how many of the job's may share a machine.
    """

    streams: Any
    rest: FlinkRest
    tasks: int


def flink_environment(settings: StreamSettings, folder: Path, given: bool) -> FlinkEnvironment:
    """`folder`: for what an embedded cluster keeps for a time; `given`: the Java process is that of `flink run`, whose
    options count where ours say nothing. Raises DeploymentError where the cluster does not answer."""
    embedded = settings.cluster is None and (not given or _option("execution.target", "") == "local")
    python = settings.py_executable or (None if given else sys.executable)
    options = flink_options(settings, python, _free_port() if embedded else None, folder)
    streams = _streams(options, settings.cluster is not None)
    if settings.parallelism or not given:
        streams.set_parallelism(settings.parallelism or 1)
    current = _configuration(streams)
    address = f"{current.get_string('rest.address', 'localhost')}:{current.get_integer('rest.port', DEFAULT_PORT)}"
    rest = FlinkRest(address, embedded)
    tasks = streams.get_parallelism()
    return FlinkEnvironment(streams, rest, tasks if embedded else _sharing(rest, tasks))


def _streams(options: Configuration, running: bool) -> Any:
    # Else PyFlink lets an embedded cluster's Python run in this process, where no files are sent to.
    with environment(_python_worker_execution_mode="process"):
        if running:
            # PyFlink's own way ends in an embedded cluster, whatever the options say.
            return StreamExecutionEnvironment(get_gateway().jvm.StreamExecutionEnvironment(options._j_configuration))
        return StreamExecutionEnvironment.get_execution_environment(options)


def _option(name: str, default: str) -> str:
    return _configuration(_streams(Configuration(), running=False)).get_string(name, default)


def _configuration(streams: Any) -> Configuration:
    return Configuration(j_configuration=get_j_env_configuration(streams._j_stream_execution_environment))


def _sharing(rest: FlinkRest, tasks: int) -> int:
    """How many of so many tasks may come to run on one machine of the cluster; all while it has no task manager."""
    slots = rest.slots_by_host()
    if slots.total() < tasks:
        click.echo(f"The job needs {tasks} slots and the cluster has {slots.total()}: it waits for more.", err=True)
    return min(tasks, max(slots.values(), default=tasks))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
