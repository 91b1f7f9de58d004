import json

import pytest
from playwright.sync_api import expect

from tests.conftest import Machine, free_port
from tests.page.conftest import ASKED
from tests.projects import write_project

KEY = "key-of-the-page-0123456789abcdef"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    machine = Machine(tmp_path_factory.mktemp("machine"))
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys.txt").write_text(KEY)
    spec = write_project(folder, ASKED)
    yield machine.deploy(spec, "--port", free_port(), "--api-key-file", folder / "keys.txt").endpoint
    machine.clean()


def test_a_browser_that_was_given_the_key_shows_the_page_and_predicts(visit, endpoint):
    view = visit(endpoint, http_credentials={"username": "anyone", "password": KEY})
    assert view.answer.status == 200
    view.send(json.dumps({"answer": {"with": "the key"}}))
    assert json.loads(view.json()) == {"with": "the key"}
    expect(view.page.locator("#figures-state")).to_have_text("Read every 2 s.")
    expect(view.page.locator("#key-form")).to_be_hidden()


@pytest.mark.parametrize("password", ["", f"{KEY}x"])
def test_without_it_the_api_says_what_is_missing(visit, endpoint, password):
    view = visit(endpoint, http_credentials={"username": "anyone", "password": password})
    assert view.answer.status == 401
    assert 'Basic realm="' in view.answer.headers["www-authenticate"]
    assert "This API needs a key" in view.page.inner_text("body")


def test_a_page_whose_key_is_no_longer_taken_asks_for_another(visit, endpoint):
    # What is entered where the browser asks, once the key that opened the page has been taken out.
    entered = {"username": "anyone", "password": f"{KEY}x"}
    view = visit(endpoint, extra_http_headers={"authorization": f"Bearer {KEY}"}, http_credentials=entered)
    assert view.answer.status == 200
    view.page.context.set_extra_http_headers({})
    view.send(json.dumps({"answer": 1}))
    expect(view.page.get_by_role("alert")).to_contain_text("A key is needed (401)")
    expect(view.page.locator("#key")).to_be_focused()
    view.page.get_by_label("This API asks for a key").fill(f"{KEY}x")
    view.page.get_by_role("button", name="Use it").click()
    expect(view.page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(view.page.locator("#figures-state")).to_have_text("Only shown with the key.")
    view.page.get_by_label("This API asks for a key").fill(KEY)
    view.page.get_by_role("button", name="Use it").click()
    # What was asked before is asked again, now with the key.
    assert json.loads(view.json()) == 1
    expect(view.page.locator("#key-form")).to_be_hidden()
    expect(view.page.locator("#figures-state")).to_have_text("Read every 2 s.")
    assert KEY not in view.page.content()
    assert view.page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
