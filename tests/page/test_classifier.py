import re

import pytest
from playwright.sync_api import expect

from tests.conftest import post
from tests.photos import encoded, photographs

pytestmark = pytest.mark.slow

# In hundredths of what they fill.
BAR_LENGTHS = "bars => bars.map(bar => 100 * bar.offsetWidth / bar.parentElement.offsetWidth)"


@pytest.fixture(scope="module")
def photo():
    return encoded(photographs()["chelsea"], ".jpg")


@pytest.fixture(scope="module")
def endpoint(classifier):
    return classifier.endpoint


def answered(endpoint, photo):
    """What the page has to show of a photo: [name, percentage] of each label."""
    answer = post(endpoint, params={"scores": "true"}, data=photo, headers={"content-type": "image/jpeg"}).json()
    assert len(answer) == 5
    return [[row["label"].replace("_", " "), percentage(row["probability"])] for row in answer]


def percentage(probability):
    return "< 0.1 %" if probability < 0.0005 else f"{100 * probability:.1f} %"


def pick(view, photo):
    view.pick(photo)


def drop(view, photo):
    transfer = view.transfer(photo)
    view.page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    expect(view.page.locator("#drop")).to_have_class(re.compile("over"))
    view.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(view.page.locator("#drop")).not_to_have_class(re.compile("over"))


def paste(view, photo):
    event = "clipboardData => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }))"
    view.page.evaluate(event, view.transfer(photo))


def choose_by_keyboard(view, photo):
    tab_to(view, "photo")
    choosers = []

    # Playwright writes an attribute to what it is given, which a list's own method has no room for.
    def keep(chooser):
        choosers.append(chooser)

    view.page.on("filechooser", keep)
    press_enter(view, lambda: choosers)
    choosers[0].set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})


def tab_to(view, id):
    for _ in range(60):
        view.page.keyboard.press("Tab")
        if view.page.evaluate("document.activeElement.id") == id:
            return
    raise AssertionError(f"the Tab key never gets to {id}")


def press_enter(view, is_done):
    """Until it is done what the key is for: Chromium drops one that comes while it is busy with the page."""
    for _ in range(60):
        view.page.keyboard.press("Enter")
        view.page.wait_for_timeout(500)
        if is_done():
            return
    raise AssertionError("the Enter key does nothing")


@pytest.mark.parametrize("give", [pick, drop, paste, choose_by_keyboard])
def test_a_photo_gets_the_labels_that_a_program_gets(visit, endpoint, photo, give):
    view = visit(endpoint)
    give(view, photo)
    expected = answered(endpoint, photo)
    assert view.labels() == expected
    assert view.text("status").startswith("{}, {}. Answered in ".format(*expected[0]))
    assert view.text("photo-note").startswith("photo.jpg, ")
    preview = view.page.locator("#preview")
    expect(preview).to_be_visible()
    expect(preview).to_have_js_property("naturalWidth", photographs()["chelsea"].shape[1])
    view.page.emulate_media(reduced_motion="reduce")
    assert view.page.locator(".bar div").evaluate_all(BAR_LENGTHS) == pytest.approx(
        [float(percentage.strip("<% ")) for _, percentage in expected], abs=1
    )


def test_the_sample_is_answered_by_keyboard_alone(visit, endpoint):
    view = visit(endpoint)
    tab_to(view, "sample")
    press_enter(view, view.page.locator("#preview").is_visible)
    assert view.labels()[0][0] == "Egyptian cat"
    # The other way in, and the details of the answer.
    tab_to(view, "pause")
    press_enter(view, lambda: view.page.locator("#pause").get_attribute("aria-pressed") == "true")
    tab_to(view, "")
    press_enter(view, view.page.locator("#body").is_visible)
    tab_to(view, "body")
    view.page.keyboard.type('{"img": 1')
    view.page.keyboard.press("Tab")
    press_enter(view, view.page.locator("#problem p").is_visible)
    expect(view.page.locator("#problem p")).to_contain_text("Refused (400)")


def test_the_time_of_the_server_is_a_part_of_the_time(visit, endpoint, photo):
    view = visit(endpoint)
    view.pick(photo)
    view.labels()
    assert re.search(r"Answered in [\d.]+ m?s, [\d.]+ m?s of it in the server\.$", view.text("status"))


def test_what_is_no_picture_is_refused_in_the_words_of_the_api(visit, endpoint, photo):
    view = visit(endpoint)
    view.pick(photo)
    view.labels()
    nothing = b"these are words"
    view.pick(nothing, "words.jpg", "image/jpeg")
    expect(view.page.get_by_role("alert")).to_contain_text("Refused (400)")
    said = post(endpoint, data=nothing, headers={"content-type": "image/jpeg"}).json()["error"]
    assert said[1:].rstrip(".") in view.problem()
    expect(view.page.locator("#labels")).to_be_hidden()
    expect(view.page.locator("#preview")).to_be_hidden()
    expect(view.page.locator("#again")).to_be_hidden()


def test_a_drop_without_a_file_says_so(visit, endpoint):
    view = visit(endpoint)
    view.page.dispatch_event("#drop", "drop", {"dataTransfer": view.page.evaluate_handle("new DataTransfer()")})
    assert "That held no file" in view.problem()
