import base64
import re
import time
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, JSHandle, Page, Request

# What Chromium itself writes to the console for each fetch that is answered so.
REFUSED_FETCH = re.compile(r"Failed to load resource: the server responded with a status of [45]\d\d ")
TRANSFER = """
([encoded, name, type]) => {
  const bytes = Uint8Array.from(atob(encoded), (sign) => sign.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}
"""


class Visit:
    """A page that somebody has opened, with whatever it asked for and complained of since."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        # What the test itself brings about, and how it is told from the other complaints.
        self.provoked: list[str] = []
        self.provokes: re.Pattern[str] | None = None
        self.paths: list[str] = []
        self.hosts: set[str] = set()
        # Chromium announces requests that its policy then stops.
        self.stopped: set[str] = set()
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._on_request)
        self.answer = page.goto(url)
        self.host = urlsplit(url).netloc

    def pick(self, photo: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> None:
        self.page.locator("#photo").set_input_files({"name": name, "mimeType": kind, "buffer": photo})

    def transfer(self, photo: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> JSHandle:
        """The DataTransfer of a drop or a paste of one file."""
        return self.page.evaluate_handle(TRANSFER, [base64.b64encode(photo).decode(), name, kind])

    def send(self, body: str) -> None:
        """By the form for JSON."""
        if self.page.locator("#json[open]").count() == 0:
            self.page.locator("#json summary").click()
        self.page.get_by_label("Body").fill(body)
        self.page.get_by_role("button", name="Send").click()

    def labels(self) -> list[list[str]]:
        """[name, percentage] of each row, as they are read, once they are there."""
        self.page.wait_for_selector("#labels li")
        rows = self.page.locator("#labels li").all()
        return [row.locator("span").all_inner_texts() for row in rows]

    def json(self) -> str:
        self.page.wait_for_selector("#raw:not([hidden])")
        return self.page.locator("#raw-text").text_content() or ""

    def problem(self) -> str:
        return self.page.locator("#problem p").inner_text()

    def text(self, id: str) -> str:
        return self.page.locator(f"#{id}").inner_text()

    def wait_until_it_complains(self) -> None:
        """Of what `provokes` names."""
        deadline = time.monotonic() + 60
        while not self.provoked:
            assert time.monotonic() < deadline, self.complaints
            self.page.wait_for_timeout(100)

    def width(self) -> int:
        """Of all that is there, in CSS pixels: more than the window's where it scrolls sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not REFUSED_FETCH.match(message.text):
            provoked = self.provokes is not None and self.provokes.search(message.text)
            (self.provoked if provoked else self.complaints).append(message.text)

    def _on_request(self, request: Request) -> None:
        address: Any = urlsplit(request.url)
        if address.scheme not in ("blob", "data") and address.netloc not in self.stopped:
            self.hosts.add(address.netloc)
            self.paths.append(address.path)
