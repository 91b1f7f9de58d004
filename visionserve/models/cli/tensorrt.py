from pathlib import Path
from typing import Literal

import click

from visionserve.models.cli import options


@click.command()
@options.MODEL
@options.output("models/resnet50_gpu/1")
@options.batch_sizes(
    "1,2,4,8,16,32",
    "The batch sizes to build engines for; the largest is the most that server-side batching should join.",
)
@click.option(
    "--minimum-segment-size",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Operations that TensorRT runs in one piece at least; fewer are left to TensorFlow.",
)
@click.option(
    "--shapes",
    type=click.Choice(["dynamic", "static"]),
    default="dynamic",
    show_default=True,
    help="dynamic: one engine, at its best for each of the sizes, for those between too. static: one for each size.",
)
@options.sample("the build must classify it, and squares cut from it, as the CPU build does.")
@options.PICTURES
@options.FORCE
def tensorrt(
    model: Path,
    output: Path,
    batch_sizes: list[int],
    minimum_segment_size: int,
    shapes: Literal["dynamic", "static"],
    sample: Path,
    pictures: Path | None,
    force: bool,
) -> None:
    """Converts the CPU build for an NVIDIA GPU: TensorRT in FP16, its engines built in advance.

    It takes the place of the CPU build's signature serving_default as it is. At least 90 % of the operations must be in
    TensorRT segments. It needs the GPU that is to run the build, and TensorFlow 2.17 with TensorRT 8.6 in an
    environment of its own: requirements/tensorrt.txt.

    \b
    Examples:
      visionserve export tensorrt
      visionserve export tensorrt --batch-sizes 1,8,32 --pictures photos
    """
    from visionserve.models.builds.folder import find_cpu_build
    from visionserve.models.builds.pictures import folder_pictures, sample_pictures
    from visionserve.models.builds.tensorrt.converter import Settings
    from visionserve.models.builds.tensorrt.export import export_tensorrt, recipe
    from visionserve.models.builds.tensorrt.parts import find_parts

    parts = find_parts()
    settings = Settings(batch_sizes=batch_sizes, minimum_segment_size=minimum_segment_size, shapes=shapes)
    version, manifest = find_cpu_build(model)
    if not force and recipe(parts, settings).made(manifest, output):
        click.echo(f"{output} holds this build already; --force exports it again")
        return
    checked_on = sample_pictures(sample) if pictures is None else folder_pictures(pictures)
    click.echo(f"converting {version} with TensorRT {parts.tensorrt} on {parts.gpu}; building engines takes minutes")
    exported = export_tensorrt(version, manifest, output, parts, settings, checked_on)
    click.echo(f"wrote {exported}")
