"""Takes secrets out of text that is about to be logged or shown."""

import re
from collections.abc import Iterable, Mapping

MASK = "***"
# RFC 3986's userinfo, user and password before a host.
_USER = re.compile(r"(?<=://)[^/\s@?#]+(?=@)")
# What signs or opens a URL: Signature Version 4 and 2 of S3, Azure's sig, and the usual names of tokens.
_PARAMETER = re.compile(
    r"(?<![\w-])((?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|X-Goog-Signature|Signature|sig|token"
    r"|access_token|api_?key|password)=)[^&\s\"'<>]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer )[\w.~+/=-]{8,}", re.IGNORECASE)
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
# A shorter value would blot out parts of other words.
SHORTEST = 8


def redacted(text: str) -> str:
    """`text` without users and passwords of URLs, signatures and tokens in their queries, and bearer tokens."""
    if "://" in text and "@" in text:
        text = _USER.sub(MASK, text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1{MASK}", text) if "earer " in text.lower() else text


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """The values of the variables whose names say that they are secret."""
    return [value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= SHORTEST]


class Redactor:
    """`redacted`, and certain values that must not be seen either."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(set(secrets), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        return redacted(self._secrets.sub(MASK, text) if self._secrets else text)
