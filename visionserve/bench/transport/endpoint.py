import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import make_headers, parse_url

from visionserve.errors import UsageError

Address = tuple[socket.AddressFamily, Any]


@cache
def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is no host name") from error
    return [(family, address) for family, _, _, _, address in found]


@cache
def _tls_context(insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# What the client itself needs to say, or what would change how an answer is framed.
OWN_HEADERS = {"content-length", "transfer-encoding", "connection", "expect", "host"}


@dataclass(frozen=True)
class Endpoint:
    """Where the load goes: one host and one path, http or https.

    `headers` go with every request; `insecure` accepts any certificate.
    """

    scheme: str
    host: str
    port: int
    authority: str
    target: str
    credentials: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    insecure: bool = False

    @classmethod
    def parse(cls, url: str, headers: Sequence[str] = (), insecure: bool = False) -> "Endpoint":
        """`headers` are lines, NAME: VALUE.

        Raises UsageError when `url` is not http(s)://HOST[:PORT][/PATH][?QUERY], or a line is no header.
        """
        try:
            parsed = parse_url(url)
        except LocationParseError as error:
            raise UsageError(f"ENDPOINT {url} is not a URL: write it as http://localhost:8888/.") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"ENDPOINT {url} is no http or https URL: write it as http://localhost:8888/.")
        return cls(
            scheme=parsed.scheme,
            host=parsed.host.strip("[]"),
            port=parsed.port or {"http": 80, "https": 443}[parsed.scheme],
            authority=parsed.host if parsed.port is None else f"{parsed.host}:{parsed.port}",
            target=parsed.request_uri,
            credentials=None if parsed.auth is None else unquote(parsed.auth),
            headers=tuple(_header(line) for line in headers),
            insecure=insecure,
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def addresses(self) -> list[Address]:
        """Where to connect to, in order of preference. Raises OSError when the host has no address."""
        return _addresses(self.host, self.port)

    def tls_context(self) -> ssl.SSLContext | None:
        """None for http."""
        return _tls_context(self.insecure) if self.scheme == "https" else None

    def request(self, body: bytes, content_type: str) -> bytes:
        """One whole HTTP/1.1 POST, head and body, encoded once for every time it is sent."""
        headers = {
            "Host": self.authority,
            "User-Agent": "visionserve-bench",
            "Accept": "*/*",
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
        }
        if self.credentials is not None:
            headers["Authorization"] = make_headers(basic_auth=self.credentials)["authorization"]
        named = {name.lower() for name, _ in self.headers}
        kept = [(name, value) for name, value in headers.items() if name.lower() not in named]
        lines = [f"POST {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in (*kept, *self.headers))]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip()
    # Tokens and field values as RFC 9110, 5.1 and 5.5, has them.
    if (
        not colon
        or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        or not re.fullmatch(r"[\t -~\x80-\xff]*", value)
    ):
        raise UsageError(f"--header {line!r} is no header: write it as 'Name: value'.")
    if name.lower() in OWN_HEADERS:
        raise UsageError(f"--header {name} is set by the benchmark itself: leave it out.")
    return name, value
