"""The process behind a deployed API: takes the port over, keeps its replica alive, and ends when it is told to."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil

from visionserve import metrics_folder
from visionserve.cortex import control
from visionserve.cortex.disk import explanation
from visionserve.cortex.free_port import bind_beside, bind_next_free, listen_beside
from visionserve.cortex.log_file import LogFile
from visionserve.cortex.log_format import LogStream, api_log_formatter
from visionserve.cortex.replica import Replica
from visionserve.cortex.settings import RunSettings
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError
from visionserve.redaction import Redactor, secret_values

# Tests set it to their own process: what they start then ends with them, however they end.
EXIT_WITH_PID = "VISIONSERVE_EXIT_WITH_PID"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m visionserve.cortex.supervisor")
    parser.add_argument("run", type=Path, help="JSON file of RunSettings")
    parser.add_argument("--report", type=int, required=True, help="descriptor that tells the starter how it went")
    options = parser.parse_args(arguments)
    # Sockets and all else that this and the model server write; the workers set the user's own again.
    os.umask(0o077)
    run = RunSettings.model_validate_json(options.run.read_bytes())
    try:
        return asyncio.run(Supervisor(run, options.report).run())
    finally:
        shutil.rmtree(run.folder, ignore_errors=True)


class Supervisor:
    def __init__(self, run: RunSettings, report: int) -> None:
        self._run = run
        self._report = report
        self._store = Store(run.state.parent)
        self._stop = asyncio.Event()
        self._redact = Redactor(secret_values({**os.environ, **run.spec.predictor.env}))
        self._logger = _logger(run.log, api_log_formatter(run.log_format, self._redact))
        # What Python itself has to say, such as of a task that failed, is in the log's own form too.
        sys.stdout = sys.stderr = LogStream(lambda line: self._logger.info("supervisor: %s", line))
        self._replica: Replica | None = None
        self._record: Deployment | None = None

    async def run(self) -> int:
        """0 after an orderly end, 1 when the API could not be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            previous = self._previous()
            if previous is None:
                metrics_folder.absorb(self._run.metrics)
            metrics_folder.keep_in(self._run.metrics)
            listener = self._listener(previous)
            replica = Replica(self._run, listener, self._logger.info)
            await self._start(replica)
            server = await self._take_over(replica, listener, previous)
        except (DeploymentError, OSError) as error:
            said = str(error) if isinstance(error, DeploymentError) else explanation(error, self._run.folder)
            self._logger.info("supervisor: %s", said)
            self._tell({"event": "failed", "error": self._redact(said)})
            metrics_folder.absorb(self._run.metrics, os.getpid())
            return 1
        await replica.go()
        if previous is not None:
            await self._retire(previous)
        self._tell({"event": "live"})
        os.close(self._report)
        watch = asyncio.create_task(self._watch_starter())
        await self._stop.wait()
        watch.cancel()
        listener.close()
        await replica.close()
        await replica.drain()
        server.close()
        metrics_folder.absorb(self._run.metrics, os.getpid())
        try:
            self._store.remove(self._run.spec.name, self._run.id)
        except DeploymentError as error:
            self._logger.info("supervisor: %s", error)
        self._logger.info("supervisor: ended")
        return 0

    async def _start(self, replica: Replica) -> None:
        """Raises DeploymentError, with nothing left running, when told to stop before the replica is ready."""
        start, stop = asyncio.create_task(replica.start()), asyncio.create_task(self._stop.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not start.done():
            start.cancel()
            await asyncio.wait({start})
            raise DeploymentError("It was stopped while it was starting.")
        await start

    async def _take_over(
        self, replica: Replica, listener: socket.socket, previous: Deployment | None
    ) -> asyncio.AbstractServer:
        """Serves the control socket and goes on record. Raises DeploymentError or OSError, with nothing left running,
        where the disk or the port does not let it."""
        self._replica = replica
        try:
            if previous is not None and not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with control.take_listener(previous.control) as theirs:
                    listen_beside(theirs, listener)
            server = await control.listen(self._run.control, self._on, lambda: listener, self._logger.info)
            self._record = self._deployment(listener)
            self._store.write(self._record)
        except (DeploymentError, OSError):
            await replica.close()
            await replica.drain()
            raise
        return server

    def _previous(self) -> Deployment | None:
        deployment = self._store.find(self._run.spec.name)
        return deployment if deployment is not None and deployment.is_running() else None

    def _listener(self, previous: Deployment | None) -> socket.socket:
        if previous is not None and previous.port == self._run.port:
            theirs = control.take_listener(previous.control)
            if previous.host == self._run.host:
                return theirs
            with theirs, suppress(OSError):
                return bind_beside(theirs, self._run.host)
        return bind_next_free(self._run.host, self._run.port)

    async def _retire(self, previous: Deployment) -> None:
        try:
            await asyncio.to_thread(control.ask, previous.control, "retire")
        except DeploymentError as error:
            self._logger.info("supervisor: the run before this one is gone already: %s", error)

    async def _on(self, command: str) -> dict[str, Any]:
        assert self._replica is not None
        if command == "status":
            return self._replica.status()
        if command == "stop":
            self._stop.set()
            return {}
        if command == "record" and self._record is not None and not self._stop.is_set():
            return self._on_record_again(self._record)
        if command == "retire":
            # Answered when every new connection goes to the run that takes over.
            await self._replica.close()
            self._stop.set()
            return {}
        return {"error": f"there is no command {command!r}"}

    def _on_record_again(self, record: Deployment) -> dict[str, Any]:
        try:
            self._store.write(record)
        except DeploymentError as error:
            self._logger.info("supervisor: %s", error)
        return record.model_dump(mode="json")

    def _deployment(self, listener: socket.socket) -> Deployment:
        run = self._run
        return Deployment(
            name=run.spec.name,
            run_id=run.id,
            pid=os.getpid(),
            host=run.host,
            port=listener.getsockname()[1],
            wished_port=run.wished_port,
            control=run.control,
            log=run.log,
            spec_file=run.spec.file,
            engine=run.engine,
            digest=run.digest,
            has_keys=bool(run.api_keys),
            updated=datetime.now(timezone.utc),
        )

    async def _watch_starter(self) -> None:
        pid = os.environ.get(EXIT_WITH_PID)
        while pid is not None:
            if not psutil.pid_exists(int(pid)):
                self._logger.info("supervisor: process %s is gone, and %s says to end with it", pid, EXIT_WITH_PID)
                self._stop.set()
            await asyncio.sleep(1)

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._report, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self._logger.info("supervisor: the command that started this run is gone; the run goes on without it")


def _logger(path: Path, formatter: logging.Formatter) -> logging.Logger:
    handler = LogFile(path)
    handler.setFormatter(formatter)
    logger = logging.getLogger("visionserve.supervisor")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


if __name__ == "__main__":
    raise SystemExit(main())
