"""Large photographs: those of Debian's lomiri-wallpapers-16.04, which all are CC0, CC-BY-4.0 or CC-BY-SA-4.0.

They are fetched for a test run and stay on its machine; nothing of them is in this project.
"""

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.setup_lock import setup_lock

PACKAGE = "lomiri-wallpapers-16.04"
COUNT = 15


def large_photographs(cache: Path) -> list[np.ndarray]:
    """uint8 RGB [H, W, 3], each with a short side of at least 1074 pixels; `cache` keeps the files between runs."""
    folder = cache / PACKAGE
    with setup_lock():
        if not folder.is_dir():
            _fetch(folder)
    files = sorted(folder.glob("*.jpg"))
    assert len(files) == COUNT, f"{folder} holds {len(files)} photographs instead of {COUNT}: delete it"
    return [np.asarray(Image.open(file).convert("RGB")) for file in files] + [skimage.data.retina()]


def jpeg_crops(photos: list[np.ndarray], count: int, shortest: int, longest: int) -> list[bytes]:
    """`count` different squares of `shortest` to `longest` pixels cut from `photos` in turn, as JPEG files of quality
    90 to 95; the same ones every time."""
    random = np.random.default_rng(20150512)
    files = []
    for index in range(count):
        photo = photos[index % len(photos)]
        height, width = photo.shape[:2]
        side = int(random.integers(shortest, min(height, width, longest) + 1))
        top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
        file = io.BytesIO()
        square = Image.fromarray(np.ascontiguousarray(photo[top : top + side, left : left + side]))
        square.save(file, "JPEG", quality=int(random.integers(90, 96)))
        files.append(file.getvalue())
    return files


def without_reduction(jpeg: bytes) -> bytes:
    """All pixels of a JPEG file, decoded by OpenCV at full scale, in a format that has no smaller one."""
    done, bmp = cv2.imencode(".bmp", cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
    assert done
    return bmp.tobytes()


def _fetch(folder: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"the large photographs come from Debian's package {PACKAGE}, and there is no {tool} here")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name)
        # Lists of packages of our own: the machine's may be missing, and writing them is root's.
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        options = ["-qq", "-o", "APT::Sandbox::User=root", "-o", "Dir::Cache=" + name]
        if _run(["apt-get", *options, "download", PACKAGE], scratch):
            options += ["-o", f"Dir::State::Lists={lists}"]
            for command in (["update"], ["download", PACKAGE]):
                failed = _run(["apt-get", *options, *command], scratch)
                assert not failed, failed
        (package,) = scratch.glob("*.deb")
        failed = _run(["dpkg-deb", "-x", str(package), "unpacked"], scratch)
        assert not failed, failed
        chosen = scratch / "chosen"
        chosen.mkdir()
        for file in scratch.glob("unpacked/usr/share/backgrounds/*.jpg"):
            file.rename(chosen / file.name)
        chosen.rename(folder)


def _run(command: list[str], folder: Path) -> str:
    """What it complained about when it failed, else nothing."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    return done.stderr or f"{command} failed" if done.returncode else ""
