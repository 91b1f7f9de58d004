import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visionserve.environment import environment
from visionserve.errors import DeploymentError
from visionserve.streaming.java import find_java

GATEWAY = "org.apache.flink.client.python.PythonGatewayServer"
PORT = "PYFLINK_GATEWAY_PORT"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
# What an embedded cluster needs beside its Python workers is little; it is soon up with the first compiler alone.
MEMORY = ("-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = """\
rootLogger.level = {level}
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %-5p %-40c{{1}} %m%n
"""


@contextmanager
def java_gateway(folder: Path, log_folder: Path | None) -> Iterator[bool]:
    """The Java process that PyFlink talks to, which is also the embedded cluster, for a block; gives whether it is that
    of `flink run`, which is not started here.

    `folder`: for what it needs for a time; `log_folder`: for a flink.log that tells more than errors. It ends with this
    process, however that ends. One that PyFlink starts stands still when it has printed 64 KiB of warnings. Raises
    DeploymentError where it does not start.
    """
    if PORT in os.environ:
        yield True
        return
    server, port = _start(folder, log_folder)
    try:
        with environment(**{PORT: str(port)}):
            yield False
    finally:
        _disconnect()
        _stop(server)


def _disconnect() -> None:
    """Else PyFlink's objects try to tell the process that is gone that they are too."""
    from pyflink import java_gateway as pyflink

    if pyflink._gateway is not None:
        pyflink._gateway.shutdown()


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    # Of workers that outlive it.
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    assert server.stdin is not None
    server.stdin.close()


def _start(folder: Path, log_folder: Path | None) -> "tuple[subprocess.Popen[bytes], int]":
    connection = folder / "connection"
    with (folder / "flink.out").open("wb") as output:
        server = subprocess.Popen(
            _command(folder, log_folder),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "_PYFLINK_CONN_INFO_PATH": str(connection)},
            # A Ctrl-C is for this process, which has the job canceled in order.
            start_new_session=True,
        )
    try:
        _wait_until_it_listens(server, connection)
    except BaseException as error:
        _stop(server)
        if isinstance(error, TimeoutError):
            lines = (folder / "flink.out").read_text(errors="replace").strip().splitlines()
            said = lines[0] if lines else "it said nothing"
            raise DeploymentError(f"Flink's Java process did not start: {said}.") from None
        raise
    return server, struct.unpack("!I", connection.read_bytes()[:4])[0]


def _wait_until_it_listens(server: "subprocess.Popen[bytes]", connection: Path) -> None:
    """Raises TimeoutError where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while not connection.exists() or connection.stat().st_size < 4:
        if server.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def _command(folder: Path, log_folder: Path | None) -> list[str]:
    from pyflink import pyflink_gateway_server as pyflink

    # It tells what it finds by os.environ.
    pyflink._find_flink_home()
    variables = dict(os.environ)
    pyflink.prepare_environment_variables(variables)
    log = (log_folder or folder).absolute()
    logging = folder / "log4j.properties"
    logging.write_text(LOGGING.format(level="INFO" if log_folder else "WARN", file=log / "flink.log"))
    memory = variables.get("JVM_ARGS", "").split() or MEMORY
    return [
        find_java(),
        *memory,
        "-XX:+IgnoreUnrecognizedVMOptions",
        "--add-opens=jdk.proxy2/jdk.proxy2=ALL-UNNAMED",
        *pyflink.get_jvm_opts(variables),
        f"-Dlog4j.configurationFile={logging}",
        "-cp",
        pyflink.construct_flink_classpath(variables),
        GATEWAY,
    ]
