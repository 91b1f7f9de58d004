"""Options that several exports share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from visionserve.models.cli.batch_sizes import BatchSizes

Option = Callable[[Any], Any]

MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=Path("models/resnet50"),
    show_default=True,
    help="The CPU build that it is made of: a version folder, or one that holds them.",
)
PICTURES = click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures to check the build on in place of the sample.",
)
FORCE = click.option("--force", is_flag=True, help="Export again even if the same build is there.")


def output(default: str) -> Option:
    return click.option(
        "--output",
        type=click.Path(path_type=Path),
        default=Path(default),
        show_default=True,
        help="The version folder to write.",
    )


def batch_sizes(default: str, help: str) -> Option:
    return click.option("--batch-sizes", type=BatchSizes(), default=default, show_default=True, help=help)


def sample(what_for: str) -> Option:
    return click.option(
        "--sample",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("sample.json"),
        show_default=True,
        help=f'A {{"img": "<base64>"}} file; {what_for}',
    )
