"""Steady load on an API, for tests that break something under it."""

import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """`status`: None where none came. `sent` and `ended`: moments of time.monotonic."""

    request: str
    sent: float
    ended: float
    status: int | None
    body: str


class Load:
    """Clients that each post one picture after another and keep every answer."""

    def __init__(
        self,
        url: str,
        body: dict[str, Any],
        clients: int,
        headers: dict[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Each request also has an `x-request` header of its own. `timeout`: seconds without a byte."""
        self.answers: list[Answer] = []
        self._url, self._body, self._headers, self._timeout = url, body, headers or {}, timeout
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when all that was sent is answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                request, sent = uuid.uuid4().hex, time.monotonic()
                headers = {**self._headers, "x-request": request}
                try:
                    answer = session.post(self._url, json=self._body, headers=headers, timeout=self._timeout)
                    status, body = answer.status_code, answer.text
                except requests.RequestException as error:
                    status, body = None, repr(error)
                self.answers.append(Answer(request, sent, time.monotonic(), status, body))
