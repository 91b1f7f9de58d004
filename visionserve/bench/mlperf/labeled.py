import csv
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path

from visionserve.bench.workload.images import content_type, local_path
from visionserve.errors import UsageError

LABEL_FILES = ("val_map.txt", "labels.txt", "labels.csv")
HEADER = "label"
BEGINNING_BYTES = 16


def labeled_images(source: str) -> dict[Path, str]:
    """The images of the folder `source` and their labels, by name.

    The label is the name of the subfolder that an image is in, or what a file of LABEL_FILES in the folder says: one
    `FILE LABEL` or `FILE,LABEL` a line.

    Raises UsageError when there is no image, one has no label, or one cannot be read.
    """
    folder = local_path(source) if "://" not in source or source.startswith("file:") else Path(source)
    if not folder.is_dir():
        raise UsageError(f"IMG_URL {source} is no folder: --accuracy needs one with an image folder for each label.")
    lists = [folder / name for name in LABEL_FILES if (folder / name).is_file()]
    if len(lists) > 1:
        raise UsageError(f"IMG_URL {folder} has two lists of labels, {lists[0].name} and {lists[1].name}: keep one.")
    images = list(_images(folder))
    if not images:
        raise UsageError(f"IMG_URL {folder} is a folder without an image: put images into a subfolder for each label.")
    labels = _listed(lists[0], set(images)) if lists else _by_subfolder(folder, images)
    return dict(sorted(labels.items()))


def _images(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        named_as_image = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
        try:
            with path.open("rb") as file:
                is_image = content_type(file.read(BEGINNING_BYTES)) is not None
        except OSError as error:
            raise UsageError(f"IMG_URL {path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
        if is_image:
            yield path
        elif named_as_image:
            raise UsageError(f"IMG_URL {path} is no image: it does not begin as JPEG, PNG, ... do; take it out.")


def _by_subfolder(folder: Path, images: list[Path]) -> dict[Path, str]:
    labels = {path: path.relative_to(folder).parts[0] for path in images if path.parent != folder}
    _refuse_unlabeled(images, labels, f"put it into a folder of {folder} named by its label")
    return labels


def _listed(path: Path, images: set[Path]) -> dict[Path, str]:
    labels: dict[Path, str] = {}
    for number, name, label in _lines(path):
        image = path.parent / name
        if image not in images:
            raise UsageError(f"{path}, line {number}: {name} is no image in {path.parent}.")
        if labels.setdefault(image, label) != label:
            raise UsageError(f"{path}, line {number}: {name} is labeled {label}, and {labels[image]} above: keep one.")
    _refuse_unlabeled(sorted(images), labels, f"add it to {path.name}")
    return labels


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """The number of a line, the file and the label in it."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = _fields(path, line)
        if number == 1 and fields[-1].lower() == HEADER:
            continue
        if len(fields) != 2 or not all(fields):
            raise UsageError(f"{path}, line {number}: {line[:80]!r} is not FILE LABEL.")
        yield number, fields[0], fields[1]


def _fields(path: Path, line: str) -> list[str]:
    if path.suffix == ".csv":
        return [field.strip() for field in next(csv.reader([line]))]
    # A file's name may hold blanks, a label does not.
    match = re.fullmatch(r"\s*(.+?)(?:\s*,\s*|\s+)([^\s,]+)\s*", line)
    return [line] if match is None else list(match.groups())


def _refuse_unlabeled(images: list[Path], labels: dict[Path, str], remedy: str) -> None:
    unlabeled = [image for image in images if image not in labels]
    if unlabeled:
        more = f" (and {len(unlabeled) - 1} more)" if len(unlabeled) > 1 else ""
        raise UsageError(f"IMG_URL {min(unlabeled)}{more} has no label: {remedy}.")
