import re
from functools import cache
from pathlib import Path, PurePosixPath


@cache
def context_files(context: Path) -> list[str]:
    """The files that a build in `context` may copy, relative to it: all but those that its .dockerignore leaves out."""
    ignore = context / ".dockerignore"
    patterns = [line.strip() for line in ignore.read_text().splitlines()] if ignore.exists() else []
    files = (file.relative_to(context).as_posix() for file in context.rglob("*") if file.is_file())
    return sorted(file for file in files if not _ignored(file, patterns))


def _ignored(file: str, patterns: list[str]) -> bool:
    """By Docker's rules: patterns start at the context's root, cover what is under them, and the last one that fits
    decides."""
    path = PurePosixPath(file)
    names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
    ignored = False
    for pattern in patterns:
        if not pattern or pattern.startswith("#"):
            continue
        kept = pattern.startswith("!")
        expression = glob_expression(pattern.removeprefix("!").strip("/"))
        if any(expression.fullmatch(name) for name in names):
            ignored = not kept
    return ignored


def glob_expression(pattern: str) -> re.Pattern[str]:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern)))
