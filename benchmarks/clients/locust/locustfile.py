"""Locust's fast user posting the file named by BODY for SECONDS; --run-time knows whole seconds only."""

import os
from pathlib import Path

import gevent
from locust import FastHttpUser, events, task

BODY = Path(os.environ["BODY"]).read_bytes()
HEADERS = {"content-type": "application/json"}


class Client(FastHttpUser):
    @task
    def post(self) -> None:
        self.client.post(os.environ["TARGET"], data=BODY, headers=HEADERS)


@events.test_start.add_listener
def stop_later(environment, **_) -> None:
    gevent.spawn_later(float(os.environ["SECONDS"]), environment.runner.quit)
