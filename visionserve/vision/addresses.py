"""Which URLs may be fetched for a stranger: those whose every address is public, and those the operator names."""

import ipaddress
import re
import socket
from typing import List, NamedTuple, Optional, Sequence, Union
from urllib.parse import quote, unquote, urlsplit

from visionserve.vision.errors import UrlError

# Public by number, yet it answers only inside Azure, with the machine's secrets.
_METADATA = ("168.63.129.16",)
# IETF's protocol assignments: older Pythons take most of it for public, and Oracle's cloud has its metadata there.
_ASSIGNMENTS = ipaddress.ip_network("192.0.0.0/24")
MAX_LENGTH = 8192
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-z0-9._-]+)?")


class Target(NamedTuple):
    """`path` includes the query; `host` is in lower case, ASCII, without brackets."""

    scheme: str
    host: str
    port: int
    path: str


class UrlPolicy:
    """`allow_urls`: None for any public address; a list of prefixes that are allowed beside those, private or not;
    False for none at all."""

    def __init__(self, allow_urls: Union[bool, Sequence[str], None] = None) -> None:
        self.enabled = allow_urls is not False
        self.prefixes = [] if isinstance(allow_urls, bool) or allow_urls is None else [*map(parse, allow_urls)]

    def addresses(self, target: Target) -> List[str]:
        """The IP addresses of `target`, to be connected to as they are: a second look-up could answer otherwise.

        UrlError when URLs are off, the host is unknown, or any of its addresses is not public.
        """
        if not self.enabled:
            raise UrlError("is not allowed: URLs are turned off for this API, so send the image itself")
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise UrlError("does not answer: there is no host {}".format(target.host)) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = any(_matches(prefix, target) for prefix in self.prefixes)
        if not allowed and not all(map(is_public, addresses)):
            raise UrlError("is not allowed: {} is not a public address".format(target.host))
        return addresses


def parse(url: str) -> Target:
    """UrlError for what is not an http or https URL."""
    if len(url) > MAX_LENGTH:
        raise UrlError("is not a URL: it has more than {} characters".format(MAX_LENGTH))
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").encode("idna").decode("ascii").lower(), parts.port
        path = quote((parts.path or "/") + ("?" + parts.query if parts.query else ""), safe="!#$%&'()*+,/:;=?@[]~")
    except ValueError:
        raise UrlError("is not a URL") from None
    if parts.scheme not in ("http", "https"):
        raise UrlError("is not allowed: only http:// and https:// URLs are fetched")
    if not host or parts.username is not None:
        raise UrlError("is not allowed: it must be http(s)://HOST[:PORT]/PATH, without a user name")
    if not _HOST.fullmatch(host):
        raise UrlError("is not a URL")
    return Target(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], path)


def is_public(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6) belongs to the public internet, seen through the tunnels that carry IPv4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _carried(ip)
        if inner is not None:
            return is_public(str(inner))
        if ip not in ipaddress.ip_network("2000::/3"):
            return False
    elif ip in _ASSIGNMENTS:
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and str(ip) not in _METADATA


def _carried(ip: ipaddress.IPv6Address) -> Optional[ipaddress.IPv4Address]:
    if ip.teredo is not None:
        return ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour


def _matches(prefix: Target, target: Target) -> bool:
    steps = unquote(target.path).replace("\\", "/").split("?")[0].split("/")
    return target[:3] == prefix[:3] and target.path.startswith(prefix.path) and ".." not in steps
