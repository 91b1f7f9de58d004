"""What is wrong with a Dockerfile, told without building it."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import click
from dockerfile_parse import DockerfileParser

from tests.deploy.dockerignore import context_files, glob_expression
from visionserve.cli import main

INSTRUCTIONS = {"ARG", "CMD", "COMMENT", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN"}
INSTRUCTIONS |= {"USER", "WORKDIR"}
PINNED = re.compile(r"[a-z0-9/_-]+:\d+\.\d+\.\d+[a-z0-9._-]*@sha256:[0-9a-f]{64}")
# The DCF CLI names its platform's registry; of TensorFlow Serving's image no digest is public.
NOT_OURS = ("${REGISTRY}/watcher:${WATCHER_VERSION}-python3", "tensorflow/serving:2.19.1")
GENERAL = {"PATH", "HOME", "PYTHONUNBUFFERED", "PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK"}


@dataclass
class Instruction:
    name: str
    value: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.value)


def read_dockerfile(file: Path) -> list[Instruction]:
    with file.open("rb") as stream:
        structure = DockerfileParser(fileobj=stream).structure
    return [Instruction(part["instruction"], part["value"]) for part in structure if part["instruction"] != "COMMENT"]


def problems(file: Path, context: Path, settings: set[str]) -> list[str]:
    """`settings`: the environment variables that what the image runs reads."""
    instructions = read_dockerfile(file)
    found = [f"{each.name} is no instruction" for each in instructions if each.name not in INSTRUCTIONS]
    return [*found, *_images(instructions), *_copies(instructions, context), *_runs(instructions, settings, context)]


def _images(instructions: list[Instruction]) -> Iterator[str]:
    stages: list[str] = []
    for each in instructions:
        if each.name == "FROM":
            image, *name = re.split(r"\s+AS\s+", each.value)
            if image not in (*stages, *NOT_OURS) and not PINNED.fullmatch(image):
                yield f"FROM {image} is not pinned by version and digest"
            stages += name
        source = re.search(r"--from=(\S+)", each.value) if each.name == "COPY" else None
        if source and source[1] not in stages:
            yield f"COPY --from={source[1]}: no such stage"


def _copies(instructions: list[Instruction], context: Path) -> Iterator[str]:
    files = context_files(context)
    arguments = dict(each.value.split("=", 1) for each in instructions if each.name == "ARG" and "=" in each.value)
    for each in instructions:
        if each.name != "COPY" or "--from=" in each.value:
            continue
        for source in each.words[:-1]:
            path = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], match[0]), source)
            expression = re.compile(glob_expression(path.rstrip("/")).pattern + "(/.*)?")
            if not any(expression.fullmatch(file) for file in files):
                yield f"COPY {source}: not in the build's context"


def _runs(instructions: list[Instruction], settings: set[str], context: Path) -> Iterator[str]:
    last = max(index for index, each in enumerate(instructions) if each.name == "FROM")
    user = [each.value for each in instructions[last:] if each.name == "USER"]
    if not user or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user[-1]):
        yield f"USER {user[-1] if user else 'root'}: name one other than root, by number"
    for each in instructions:
        if each.name in ("CMD", "ENTRYPOINT"):
            yield from _command(each.name, each.value)
        elif each.name == "HEALTHCHECK":
            yield from _command(each.name, each.value.partition("CMD ")[2])
        elif each.name == "ENV":
            names = {word.partition("=")[0] for word in each.words}
            yield from (f"ENV {name}: nothing reads it" for name in sorted(names - settings - GENERAL))
        elif each.name == "RUN" and "pip install" in each.value:
            yield from _installs(each.value, context)


def _command(name: str, value: str) -> Iterator[str]:
    try:
        words = json.loads(value)
    except ValueError:
        yield f"{name} {value}: write it as a JSON list, so that no shell stands before the signals"
        return
    if words[0] == "visionserve":
        yield from refused(words[1:])


def refused(arguments: list[str]) -> Iterator[str]:
    """Why the command `visionserve` does not take these arguments."""
    try:
        main.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    except KeyError:
        yield f"visionserve {arguments[0]}: no such command"
    except click.UsageError as error:
        yield f"visionserve {' '.join(arguments)}: {error.message}"


def _installs(line: str, context: Path) -> Iterator[str]:
    text = line
    for file in re.findall(r"install -r (\S+)", line):
        text += (context / file).read_text()
    if not re.search(r"(-c|--constraint) \S*constraints\.txt|--no-deps", text):
        yield f"RUN {line}: without constraints.txt"
    extras = {extra for group in re.findall(r"\[([\w,-]+)\]", text) for extra in group.split(",")}
    yield from (
        f"RUN {line}: {extra} is no extra"
        for extra in sorted(extras - set(metadata("visionserve").get_all("Provides-Extra") or []))
    )
