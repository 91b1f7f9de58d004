"""What a browser is shown at GET /: one document that holds its styles and scripts, so that it needs no other address
than the API's own, whatever prefix that is reached under."""

import base64
import hashlib
import html
from importlib import resources

from starlette.responses import HTMLResponse, Response

from visionserve import __version__
from visionserve.cortex.spec.api import ApiSpec

STYLE = "style.css"
# One module, in the order in which they need each other.
SCRIPTS = ("metrics.js", "request.js", "answer.js", "figures.js", "page.js")
SAMPLE = "sample.jpg"
# https://www.w3.org/TR/CSP3/: nothing from elsewhere, no other script or style than these, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept",
    "x-content-type-options": "nosniff",
}


class Page:
    """The page of one API, made once."""

    def __init__(self, spec: ApiSpec, engine: str | None) -> None:
        style = _text(STYLE)
        script = "\n".join(_text(name) for name in SCRIPTS)
        values = {
            "name": spec.name,
            "engine": engine or "python",
            "version": __version__,
            "predictor": spec.predictor.type,
        }
        document = _text("page.html")
        for name, value in values.items():
            document = document.replace(f"{{{name}}}", html.escape(value))
        self._document = document.replace("{style}", style).replace("{script}", script)
        policy = POLICY.format(script=_digest(script), style=_digest(style))
        self._headers = {**HEADERS, "content-security-policy": policy}
        self._sample = resources.files(__package__).joinpath(SAMPLE).read_bytes()

    def response(self) -> Response:
        return HTMLResponse(self._document, headers=self._headers)

    def sample(self) -> Response:
        """The photograph that the page offers to those who have none at hand."""
        headers = {"cache-control": "max-age=3600", "x-content-type-options": "nosniff"}
        return Response(self._sample, headers=headers, media_type="image/jpeg")


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
