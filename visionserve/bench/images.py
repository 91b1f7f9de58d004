import os
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from visionserve.errors import UsageError

FETCH_TIMEOUT_S = 60
MAX_BYTES = 256 << 20

# (offset, bytes) from each format's own specification; those that OpenCV and Pillow both read.
SIGNATURES = {
    "JPEG": (0, b"\xff\xd8\xff"),
    "PNG": (0, b"\x89PNG\r\n\x1a\n"),
    "GIF": (0, b"GIF8"),
    "BMP": (0, b"BM"),
    "little-endian TIFF": (0, b"II*\x00"),
    "big-endian TIFF": (0, b"MM\x00*"),
    "WebP": (8, b"WEBP"),
    "AVIF": (4, b"ftypavif"),
    "JPEG 2000": (4, b"jP  \r\n\x87\n"),
}


def load_image(source: str) -> bytes:
    """The encoded image at `source`: an http(s) URL, a file:// URL or a path.

    Raises UsageError when it cannot be read or does not begin as an image does.
    """
    scheme = urlsplit(source).scheme.lower() if "://" in source else ""
    if scheme in ("http", "https"):
        data = _fetch(source)
    elif scheme == "file":
        parts = urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"IMG_URL {source} names a file on another host: write file:///PATH.")
        data = _read(Path(url2pathname(unquote(parts.path) if os.name == "nt" else parts.path)))
    elif scheme:
        raise UsageError(f"IMG_URL {source} is neither http, https nor file: download it and give its path.")
    else:
        data = _read(Path(source).expanduser())
    if not any(data.startswith(mark, offset) for offset, mark in SIGNATURES.values()):
        raise UsageError(f"IMG_URL {source} is no image: it begins with {data[:12]!r}, as none of JPEG, PNG, ... does.")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"IMG_URL {path} cannot be read: {reason}.") from error


def _fetch(url: str) -> bytes:
    import requests

    try:
        with requests.get(url, timeout=FETCH_TIMEOUT_S, stream=True) as answer:
            if answer.status_code != 200:
                raise UsageError(
                    f"IMG_URL {url} answered {answer.status_code} {answer.reason}: give the address of an image."
                )
            data = bytearray()
            for chunk in answer.iter_content(1 << 20):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise UsageError(f"IMG_URL {url} is larger than {MAX_BYTES >> 20} MiB.")
    except requests.ConnectionError as error:
        raise UsageError(f"IMG_URL {url} does not answer: check its host and port.") from error
    except (requests.RequestException, ValueError) as error:
        raise UsageError(f"IMG_URL {url} cannot be fetched: {error}.") from error
    return bytes(data)
