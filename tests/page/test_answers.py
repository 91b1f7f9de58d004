import json
import re
import socket

import pytest
from playwright.sync_api import expect

from tests.conftest import free_port
from tests.page.conftest import ASKED, ENDPOINT
from tests.projects import write_project
from visionserve.cortex.payload import MAX_BODY_BYTES

pytestmark = pytest.mark.slow

HTML = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"
DROP_ZEROS = """
size => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(size)], "photo.jpg", { type: "image/jpeg" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
}
"""
# Of a body, what is shown and whether it can be tried again.
ERRORS = [
    ({"status": 413, "error": "too many pixels"}, ["Too large (413)", "Too many pixels.", "This one has"], False),
    (
        {"status": 503, "error": "Too many requests", "headers": {"retry-after": "7"}},
        ["Not now (503)", "Too many requests.", "7 s"],
        True,
    ),
    ({"status": 500, "error": "it broke"}, ["Failed (500)", "It broke.", "cortex logs small"], True),
    ({}, ["Failed (500)", "Internal server error.", "cortex logs small"], True),
]
PHONE = {"width": 360, "height": 700}


def asking(view, **body):
    view.send(json.dumps(body))


def test_an_answer_that_is_no_list_of_labels_is_shown_as_json(visit, asked):
    view = visit(asked)
    answer = {"boxes": [[1, 2, 3, 4]], "of": "a photo", "score": 0.5}
    asking(view, answer=answer)
    assert json.loads(view.json()) == answer
    expect(view.page.locator("#raw-text")).to_be_visible()
    expect(view.page.locator("#labels")).to_be_hidden()
    assert view.text("status").startswith("Answered in ")
    assert view.page.locator(".bar").count() == 0


def test_an_answer_in_words_is_shown_as_it_is(visit, asked):
    view = visit(asked)
    asking(view, answer="a cat,\nI think")
    assert view.json() == "a cat,\nI think"


def test_an_api_with_an_endpoint_of_its_own_is_asked_below_it(visit, asked):
    address = asked + ENDPOINT
    view = visit(address)
    view.page.get_by_role("button", name="Take the sample").click()
    expect(view.page.locator("#problem p")).to_be_visible()
    expect(view.page.locator("#figures-state")).to_have_text("Read every 2 s.")
    assert set(view.paths) == {ENDPOINT, f"{ENDPOINT}/metrics", f"{ENDPOINT}/sample.jpg"}
    assert view.page.locator(".here").first.text_content() == address


def test_an_error_is_told_in_words(visit, asked):
    view = visit(asked)
    asking(view, answer=1)
    view.json()
    for body, words, passes in ERRORS:
        asking(view, **body)
        for each in words:
            expect(view.page.get_by_role("alert")).to_contain_text(each)
        expect(view.page.locator("#raw")).to_be_hidden()
        assert view.page.locator("#again").is_visible() == passes


def test_a_photo_that_is_larger_than_the_api_takes_is_told_with_its_size(visit, asked):
    view = visit(asked)
    view.page.evaluate(DROP_ZEROS, MAX_BODY_BYTES + 1)
    alert = view.page.get_by_role("alert")
    expect(alert).to_contain_text("Too large (413)")
    expect(alert).to_contain_text("64 MiB")
    expect(alert).to_contain_text("67.1 MB")


def test_what_passes_can_be_tried_again(visit, asked):
    view = visit(asked)
    asking(view, status=503, error="not yet", once="tried again", answer={"at": "last"})
    view.page.get_by_role("button", name="Try again").click()
    assert json.loads(view.json()) == {"at": "last"}
    expect(view.page.locator("#problem")).to_be_empty()


def test_html_in_labels_answers_and_errors_stays_text(visit, asked):
    view = visit(asked)
    asking(view, answer=[{"label": HTML, "probability": 0.75}, {"label": "a_cat", "probability": 0.25}])
    assert view.labels() == [[HTML.replace("_", " "), "75.0 %"], ["a cat", "25.0 %"]]
    assert HTML in view.text("status")
    asking(view, status=400, error=HTML)
    expect(view.page.locator("#problem p")).to_contain_text(HTML)
    asking(view, answer=HTML)
    expect(view.page.locator("#raw-text")).to_have_text(HTML)
    assert view.page.title() == "small"
    assert view.page.locator("main img").count() == 1
    assert view.page.locator("script").count() == 1


def test_long_words_do_not_widen_a_phone(visit, asked):
    view = visit(asked, viewport=PHONE)
    asking(view, answer=[{"label": "x" * 400, "probability": 1.0}])
    view.labels()
    assert view.width() == PHONE["width"]
    asking(view, status=400, error="x" * 400)
    expect(view.page.locator("#problem p")).to_be_visible()
    assert view.width() == PHONE["width"]


def test_the_browser_lets_the_page_reach_no_other_address(visit, asked):
    view = visit(asked)
    view.provokes = re.compile("Content Security Policy")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        view.stopped.add(address.removeprefix("http://"))
        for attempt in (f"fetch('{address}')", f"import('{address}')"):
            assert view.page.evaluate(f"{attempt}.then(() => 'it came', () => 'refused')") == "refused"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    view.wait_until_it_complains()


def test_an_api_that_went_away_is_told(visit, machine, tmp_path):
    api = machine.deploy(write_project(tmp_path / "gone", ASKED), "--port", free_port())
    view = visit(api.endpoint)
    expect(view.page.locator("#answered")).to_have_text("0")
    view.provokes = re.compile(r"net::ERR_CONNECTION_(REFUSED|RESET|CLOSED)")
    assert machine.cortex("delete", api.name).returncode == 0
    asking(view, answer=1)
    expect(view.page.get_by_role("alert")).to_contain_text("The API cannot be reached")
    expect(view.page.locator("#again")).to_be_visible()
    expect(view.page.locator("#figures-state")).to_contain_text("cannot be reached")
    view.wait_until_it_complains()
