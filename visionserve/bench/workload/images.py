import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from visionserve.errors import UsageError

if TYPE_CHECKING:
    import requests

FETCH_TIMEOUT_S = 60
MAX_REDIRECTS = 10
MAX_BYTES = 256 << 20
# Every worker holds all requests encoded, ready to be sent.
MAX_TOTAL_BYTES = 1 << 30
LIST_SUFFIXES = (".txt", ".lst", ".list")


class Format(NamedTuple):
    """How files of an image format begin, by that format's own specification."""

    content_type: str
    offset: int
    mark: bytes


# Those that OpenCV and Pillow both read.
FORMATS = (
    Format("image/jpeg", 0, b"\xff\xd8\xff"),
    Format("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    Format("image/gif", 0, b"GIF8"),
    Format("image/bmp", 0, b"BM"),
    Format("image/tiff", 0, b"II*\x00"),
    Format("image/tiff", 0, b"MM\x00*"),
    Format("image/webp", 8, b"WEBP"),
    Format("image/avif", 4, b"ftypavif"),
    Format("image/jp2", 4, b"jP  \r\n\x87\n"),
)


def content_type(image: bytes) -> str | None:
    """The content type of an encoded image; None when it does not begin as one does."""
    return next((kind for kind, offset, mark in FORMATS if image.startswith(mark, offset)), None)


def load_images(source: str) -> list[bytes]:
    """The encoded images at `source`: an http(s) URL, a file:// URL or a path; or all of a folder, or those that a
    list names, a .txt file of one such source a line.

    Raises UsageError when one cannot be read or does not begin as an image does, or all together are too large.
    """
    if _scheme(source) in ("", "file"):
        path = local_path(source)
        if path.is_dir():
            return _within_limit(source, [_read(file) for file in image_files(path)])
        if path.suffix.lower() in LIST_SUFFIXES:
            return _within_limit(source, [load_image(entry) for entry in _entries(path)])
    return [load_image(source)]


def load_image(source: str) -> bytes:
    """The encoded image at `source`: an http(s) URL, a file:// URL or a path.

    Raises UsageError when it cannot be read or does not begin as an image does.
    """
    data = _fetch(source) if _scheme(source) in ("http", "https") else _read(local_path(source))
    if content_type(data) is None:
        raise UsageError(f"IMG_URL {source} is no image: it begins with {data[:12]!r}, as none of JPEG, PNG, ... does.")
    return data


def image_files(folder: Path) -> list[Path]:
    """The files below `folder` that begin as images do, by name. Raises UsageError when there is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and content_type(_beginning(path))]
    if not files:
        raise UsageError(f"IMG_URL {folder} is a folder without an image: name one with JPEG, PNG, ... files in it.")
    return files


def local_path(source: str) -> Path:
    """Raises UsageError when `source` is neither a path nor a file:// URL of this machine."""
    scheme = _scheme(source)
    if scheme == "":
        return Path(source).expanduser()
    parts = urlsplit(source)
    if scheme != "file":
        raise UsageError(f"IMG_URL {source} is neither http, https nor file: download it and give its path.")
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"IMG_URL {source} names a file on another host: write file:///PATH.")
    return Path(url2pathname(unquote(parts.path) if os.name == "nt" else parts.path))


def _scheme(source: str) -> str:
    return urlsplit(source).scheme.lower() if "://" in source else ""


def _entries(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in _read(path).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UsageError(f"IMG_URL {path} is no list of images: it is not UTF-8 text.") from error
    sources = [line for line in lines if line and not line.startswith("#")]
    if not sources:
        raise UsageError(f"IMG_URL {path} is a list without an image: write one path or URL a line.")
    return [source if _scheme(source) else str(path.parent / Path(source).expanduser()) for source in sources]


def _within_limit(source: str, images: list[bytes]) -> list[bytes]:
    total = sum(map(len, images))
    if total > MAX_TOTAL_BYTES:
        raise UsageError(
            f"IMG_URL {source} holds {total / 1e9:.1f} GB of images and every worker keeps all of them: "
            f"name at most {MAX_TOTAL_BYTES >> 30} GiB."
        )
    return images


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"IMG_URL {path} cannot be read: {(error.strerror or str(error)).lower()}.")


def _fetch(url: str) -> bytes:
    import requests

    address = url
    try:
        with requests.Session() as session:
            for _ in range(MAX_REDIRECTS):
                with session.get(address, timeout=FETCH_TIMEOUT_S, stream=True, allow_redirects=False) as answer:
                    if not answer.is_redirect:
                        return _body(url, answer)
                    address = urljoin(address, answer.headers["location"])
                    if urlsplit(address).hostname != urlsplit(url).hostname:
                        raise UsageError(f"IMG_URL {url} redirects to another host: name {address} if you mean that.")
    except requests.ConnectionError as error:
        raise UsageError(f"IMG_URL {url} does not answer: check its host and port.") from error
    except (requests.RequestException, ValueError) as error:
        raise UsageError(f"IMG_URL {url} cannot be fetched: {error}.") from error
    raise UsageError(f"IMG_URL {url} redirects more than {MAX_REDIRECTS} times: give the address of an image.")


def _body(url: str, answer: "requests.Response") -> bytes:
    if answer.status_code != 200:
        raise UsageError(f"IMG_URL {url} answered {answer.status_code} {answer.reason}: give the address of an image.")
    data = bytearray()
    for chunk in answer.iter_content(1 << 20):
        data += chunk
        if len(data) > MAX_BYTES:
            raise UsageError(f"IMG_URL {url} is larger than {MAX_BYTES >> 20} MiB.")
    return bytes(data)
