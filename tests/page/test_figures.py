import re

import pytest
from playwright.sync_api import expect

from tests.conftest import post

pytestmark = pytest.mark.slow

PERIOD_MS = 2000
HIDE = """
hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.fixture
def view(visit, asked):
    view = visit(asked, own_clock=True)
    expect(view.page.locator("#answered")).to_have_text(re.compile(r"\d"))
    return view


def counts(view):
    return [int(view.text(id)) for id in ("answered", "wrong", "failed")]


def ask(asked):
    """Two good requests, one wrong, two that fail."""
    bodies = [{"answer": 1}, {"answer": 2}, {"status": 404, "error": "-"}, {"status": 503, "error": "-"}, {}]
    assert [post(asked, json=body).status_code for body in bodies] == [200, 200, 404, 503, 500]


def test_figures_follow_the_requests(view, asked):
    before = counts(view)
    ask(asked)
    view.page.clock.fast_forward(PERIOD_MS)
    answered, wrong, failed = (str(count + more) for count, more in zip(before, (2, 1, 2), strict=True))
    expect(view.page.locator("#answered")).to_have_text(answered)
    expect(view.page.locator("#wrong")).to_have_text(wrong)
    expect(view.page.locator("#failed")).to_have_text(failed)
    assert float(view.text("rate")) > 0
    for id in ("mean", "p95"):
        assert re.fullmatch(r"[\d.]+ m?s", view.text(id))
    assert view.text("in-flight") == "0"
    assert view.text("restarts") == "0"
    assert view.text("engine") == "python"


def test_who_pauses_them_gets_no_more_until_they_go_on(view, asked):
    view.page.get_by_role("button", name="Pause").click()
    assert view.text("figures-state") == "Paused."
    before, read = counts(view), view.paths.count("/metrics")
    ask(asked)
    view.page.clock.run_for(5 * PERIOD_MS)
    assert counts(view) == before
    assert view.paths.count("/metrics") == read
    view.page.get_by_role("button", name="Pause").click()
    expect(view.page.locator("#answered")).to_have_text(str(before[0] + 2))


def test_a_tab_that_is_said_to_be_hidden_reads_none(view, asked):
    view.page.evaluate(HIDE, True)
    before = counts(view)
    ask(asked)
    view.page.clock.run_for(5 * PERIOD_MS)
    assert counts(view) == before
    view.page.evaluate(HIDE, False)
    expect(view.page.locator("#answered")).to_have_text(str(before[0] + 2))
