import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

DESKTOP = {"width": 1120, "height": 900}
PHONE = {"width": 360, "height": 700}
# 0 to 255.
GROUND_RED = "Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])"


@pytest.fixture(scope="module")
def endpoint(classifier):
    return classifier.endpoint


def violations(view):
    found = Axe().run(view.page).response["violations"]
    return [(each["id"], node["html"], node.get("failureSummary")) for each in found for node in each["nodes"]]


@pytest.mark.parametrize(
    ("scheme", "viewport"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_and_nothing_scrolls_sideways(visit, endpoint, scheme, viewport):
    view = visit(endpoint, color_scheme=scheme, viewport=viewport)
    assert (view.page.evaluate(GROUND_RED) < 128) == (scheme == "dark")
    view.page.get_by_role("button", name="Take the sample").click()
    view.labels()
    for summary in view.page.locator("summary").all():
        summary.click()
    view.page.evaluate("document.getElementById('key-form').hidden = false")
    assert violations(view) == []
    assert view.width() == viewport["width"]
    view.send("{")
    expect(view.page.locator("#problem p")).to_be_visible()
    assert violations(view) == []
    assert view.width() == viewport["width"]


def test_who_wants_no_motion_gets_none(visit, endpoint):
    view = visit(endpoint, reduced_motion="reduce")
    view.page.get_by_role("button", name="Take the sample").click()
    view.labels()
    assert view.page.evaluate("document.getAnimations().length") == 0
