import threading
import time
from collections.abc import Callable
from typing import Any

import click

from visionserve.errors import DeploymentError, InferenceError
from visionserve.streaming.client_rows import ClientRows
from visionserve.streaming.failure import root_cause
from visionserve.streaming.rest_client import FlinkRest

POLL = 0.25
RESTARTS_POLL = 2.0
CHECKPOINT_SECONDS = 60.0
CANCEL_SECONDS = 60.0


class RunningJob:
    """A submitted job, until it has ended. `rows`: those that come to this process; `seconds`: since it was submitted,
    until it ended."""

    def __init__(self, client: Any, rest: FlinkRest, rows: ClientRows) -> None:
        """`client`: PyFlink's JobClient."""
        self.id = str(client.get_job_id())
        self.rest = rest
        self.rows = rows
        self.seconds = 0.0
        self._result = client.get_job_execution_result()
        self._started = time.monotonic()
        self._told, self._reason = 0, ""

    def follow(self, meanwhile: Callable[[], None], interrupted: threading.Event) -> bool:
        """Waits for the job to end, calling `meanwhile` again and again; whether it ended by itself. It is canceled
        where it is `interrupted`, and where nobody takes the rows any more.

        Says on stderr why the job was started again. Raises InferenceError, one sentence, for a job that fails,
        DeploymentError where it is not known whether it has ended.
        """
        canceled, look = False, time.monotonic()
        while not canceled and not self._done():
            meanwhile()
            if time.monotonic() >= look:
                self._tell_restarts()
                look = time.monotonic() + RESTARTS_POLL
            canceled = interrupted.wait(POLL) or self.rows.error is not None
        if canceled:
            # A checkpoint would wait for rows that are not taken.
            if self.rows.error is None:
                interrupted.clear()
                self._finish_begun(interrupted)
            self._cancel()
        self.seconds = time.monotonic() - self._started
        if not canceled:
            self._check()
        return not canceled

    def _done(self) -> bool:
        from py4j.protocol import Py4JError

        try:
            return self._result.done()
        except Py4JError as error:
            raise DeploymentError(f"Flink's Java process ended before job {self.id} did.") from error

    def _check(self) -> None:
        from py4j.protocol import Py4JJavaError

        try:
            self._result.result()
        except Py4JJavaError as error:
            cause = root_cause(str(error))
            try:
                runs = self.rest.runs(self.id)
            except DeploymentError:
                # An embedded cluster goes with its job.
                runs = not self.rest.embedded
            if runs:
                raise DeploymentError(f"Lost sight of job {self.id}, which may go on: {cause}") from error
            raise InferenceError(f"The job failed: {cause}") from error

    def _tell_restarts(self) -> None:
        try:
            failures = self.rest.failures(self.id, self._told)
        except DeploymentError:
            # It is asked again; the job's result tells more.
            return
        for reason in map(root_cause, failures.values()):
            if reason != self._reason:
                click.echo(f"The job starts again from its last checkpoint: {reason}", err=True)
            self._reason = reason
        self._told = max(failures, default=self._told)

    def _finish_begun(self, interrupted: threading.Event) -> None:
        """What was classified gets into finished files; a second interruption skips that.

        Files are finished when the job is told that a checkpoint is complete, and it is told before the next one.
        """
        try:
            for _ in range(2):
                if interrupted.is_set() or not self.rest.checkpoint(self.id, CHECKPOINT_SECONDS, interrupted):
                    return
        except DeploymentError:
            # It has just ended, or has not begun: there is nothing to finish.
            return

    def _cancel(self) -> None:
        try:
            self.rest.cancel(self.id)
        except DeploymentError:
            if not self._done():
                raise
        deadline = time.monotonic() + CANCEL_SECONDS
        while not self._done():
            if time.monotonic() > deadline:
                raise DeploymentError(f"Job {self.id} did not end within {CANCEL_SECONDS:g} s of being canceled.")
            time.sleep(POLL)
