import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.conftest import Machine, free_port
from tests.debian import why_not_installed
from tests.page.visit import Visit
from tests.projects import write_project

# Answers what it is asked to.
ASKED = """
from starlette.responses import JSONResponse

class PythonPredictor:
    def __init__(self, config):
        self.passed = set()

    def predict(self, payload):
        status = payload.get("status")
        if status is None or payload.get("once") in self.passed:
            return payload["answer"]
        self.passed.add(payload.get("once", ""))
        return JSONResponse({"error": payload["error"]}, status, payload.get("headers"))
"""
ENDPOINT = "/of/its/own"

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


# Not longer: as long as it lives, nothing else in this process can run an event loop.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    reason = why_not_installed(["chromium"], ["chromium"])
    if reason is not None:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # A container has neither the namespaces of Chromium's sandbox nor much of /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments, timeout=2 * PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def plain_window(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def visit(chromium: Browser, plain_window: BrowserContext) -> Iterator[Callable[..., Visit]]:
    """Opens an address; each visit has to stay on its host, and without a complaint.

    `own_clock`: the page's timers run as the test says; `options`: as for a new context of the browser.
    """
    visits = []

    def open_(url: str, own_clock: bool = False, **options: Any) -> Visit:
        alone = own_clock or options
        context = chromium.new_context(**options) if alone else plain_window
        context.set_default_timeout(PATIENCE_MS)
        if own_clock:
            context.clock.install()
        visits.append(Visit(context.new_page(), url))
        return visits[-1]

    yield open_
    for each in visits:
        each.page.close()
        if each.page.context is not plain_window:
            each.page.context.close()
    for each in visits:
        assert each.complaints == []
        assert each.hosts == {each.host}


@pytest.fixture(scope="package")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API that answers what it is asked to; it has ENDPOINT as well."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    spec = write_project(tmp_path_factory.mktemp("asked"), ASKED, networking={"endpoint": ENDPOINT})
    yield machine.deploy(spec, "--port", free_port()).endpoint
    machine.clean()
