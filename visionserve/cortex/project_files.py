import os
from collections.abc import Collection
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORE_FILE = ".cortexignore"


def project_files(project: Path, without: Collection[Path] = ()) -> list[Path]:
    """The files that Cortex would upload of a project, relative to it: all but hidden ones, what Python makes, virtual
    environments, and what .cortexignore names (in .gitignore's language); nor the folders of `without`."""
    ignore = project / IGNORE_FILE
    ignored = GitIgnoreSpec.from_lines(ignore.read_text().splitlines() if ignore.is_file() else [])
    left_out = {path.resolve() for path in without}
    found = []
    for folder, folders, names in os.walk(project):
        parent = Path(folder)
        folders[:] = [name for name in folders if not _is_made(name) and not _is_foreign(parent / name, left_out)]
        found += [(parent / name).relative_to(project) for name in names if not _is_made(name)]
    return sorted(path for path in found if not ignored.match_file(path) and (project / path).is_file())


def _is_made(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", ".pyo"))


def _is_foreign(folder: Path, left_out: set[Path]) -> bool:
    return (folder / "pyvenv.cfg").exists() or folder.resolve() in left_out
