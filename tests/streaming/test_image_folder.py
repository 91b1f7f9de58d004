import os
from pathlib import Path

import pytest

from visionserve.streaming.folder_watch import FolderWatch
from visionserve.streaming.image_folder import list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a link to it, and much else that is named as pictures are."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.jpg").write_bytes(b"a")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "below" / "a.jpg")
    (tmp_path / "folder.jpg").symlink_to(tmp_path / "below")
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "none")
    (tmp_path / "itself.jpg").symlink_to(tmp_path / "itself.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path


def test_only_files_are_images(folder: Path) -> None:
    assert list_images(folder) == ["below/a.jpg", "link.jpg"]


def test_only_files_come_into_a_watched_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionserve.streaming.folder_watch.SETTLED", 0.0)
    assert FolderWatch(folder).look() == ["below/a.jpg", "link.jpg"]
