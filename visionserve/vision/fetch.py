"""An image from a URL that a stranger sent."""

import http.client
import socket
import ssl
import threading
import time
from typing import List, Optional, Sequence, Tuple, Union
from urllib.parse import urljoin

from visionserve.vision.addresses import Target, UrlPolicy, parse
from visionserve.vision.errors import UrlError

MAX_BYTES = 20000000
MAX_REDIRECTS = 5
MAX_REASON = 100


class Fetcher:
    """`timeout` in seconds covers a whole `get` with its redirects (not the system's look-up of a host's name).

    Proxies of the environment are not used: what is checked is the address that is connected to, and a proxy would
    look the name up again.
    """

    def __init__(
        self,
        allow_urls: Union[bool, Sequence[str], None] = None,
        timeout: float = 10.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.policy = UrlPolicy(allow_urls)
        self.timeout = timeout
        self.max_bytes = max_bytes
        self._tls = None  # type: Optional[ssl.SSLContext]

    def get(self, url: str) -> bytes:
        """The body behind `url`, at most `max_bytes`; UrlError, a predicate, when it is not to be had."""
        deadline = time.monotonic() + self.timeout
        for _ in range(MAX_REDIRECTS + 1):
            target = parse(url)
            addresses = self.policy.addresses(target)
            try:
                location, body = self._exchange(target, addresses, deadline)
            except (OSError, http.client.HTTPException, ssl.CertificateError) as error:
                self._refuse_if_late(deadline)
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise UrlError("does not answer: {}".format(reason)) from error
            if location is None:
                return body
            try:
                url = urljoin(url, location)
            except ValueError:
                raise UrlError("leads to what is not a URL") from None
        raise UrlError("leads through more than {} redirects".format(MAX_REDIRECTS))

    def _exchange(self, target: Target, addresses: List[str], deadline: float) -> Tuple[Optional[str], bytes]:
        """One request -> where it redirects to, or None and the body."""
        connected = _connect(addresses, target.port, deadline)
        if target.scheme == "https":
            # The handshake waits for the watchdog.
            connected = self._context().wrap_socket(
                connected, server_hostname=target.host, do_handshake_on_connect=False
            )
        # Time-outs of a socket start anew with each byte; the watchdog's does not.
        watchdog = threading.Timer(max(deadline - time.monotonic(), 0), _cut, [connected])
        watchdog.daemon = True
        watchdog.start()
        default = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}[target.scheme]
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.default_port = default
        connection.auto_open = 0  # it must never look the host up by itself
        connection.sock = connected
        try:
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            connection.request("GET", target.path, headers={"User-Agent": "visionserve", "Accept": "image/*"})
            # It holds the socket open beyond the connection's own end.
            with connection.getresponse() as response:
                location = response.getheader("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    return location, b""
                if response.status != 200:
                    raise UrlError("answers {} {}".format(response.status, response.reason[:MAX_REASON]).rstrip())
                return None, self._body(response, deadline)
        finally:
            watchdog.cancel()
            connection.close()
            connected.close()

    def _body(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        announced = response.length
        too_large = UrlError("holds more than {:g} MB: send a smaller image".format(self.max_bytes / 1e6))
        if announced is not None and announced > self.max_bytes:
            raise too_large
        body = bytearray()
        while True:
            part = response.read(65536)
            body += part
            if len(body) > self.max_bytes:
                raise too_large
            if not part:
                break
        self._refuse_if_late(deadline)
        if announced is not None and len(body) < announced:
            raise UrlError("does not answer: {} of {} bytes came".format(len(body), announced))
        return bytes(body)

    def _refuse_if_late(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise UrlError("does not answer within {:g} s".format(self.timeout)) from None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            from certifi import where  # comes with requests

            context = ssl.create_default_context()
            context.load_verify_locations(where())
            self._tls = context
        return self._tls


def _connect(addresses: List[str], port: int, deadline: float) -> socket.socket:
    problem = OSError("no address")
    for left in range(len(addresses), 0, -1):
        # A dead address must leave time for the next one.
        share = max(deadline - time.monotonic(), 0.001) / left
        try:
            connected = socket.create_connection((addresses[-left], port), timeout=share)
        except OSError as error:
            problem = error
        else:
            connected.settimeout(max(deadline - time.monotonic(), 0.001))
            return connected
    raise problem


def _cut(connected: socket.socket) -> None:
    try:
        # Not SSLSocket's own, which takes its state from under the thread that reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
