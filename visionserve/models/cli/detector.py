from pathlib import Path

import click

from visionserve.models.cli import options


@click.command()
@click.option(
    "--weights",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The detector as npm's .tgz of @vladmandic/human, or its centernet.json. Without it, it is downloaded by npm.",
)
@options.output("models/detector/1")
@options.sample("the build must find in it the objects that the network's own graph finds, at least one.")
@options.FORCE
def detector(file: Path | None, output: Path, sample: Path, force: bool) -> None:
    """Writes an object detector for COCO's 80 classes as a SavedModel, loads it back and tries it on the sample.

    It is MobileNetV3-CenterNet of the npm package @vladmandic/human. Its signature serving_default takes
    `input_tensor`, one picture of any size, uint8 RGB [1, H, W, 3], and gives `detection_boxes`, `detection_scores`,
    `detection_classes` and `num_detections` as the models of TensorFlow's detection model zoo do.

    \b
    Examples:
      visionserve export detector
      visionserve export detector --weights vladmandic-human-3.3.6.tgz --output models/mine/1
    """
    from visionserve.models.builds.detector.export import export_detector, is_exported
    from visionserve.models.builds.detector.weights import find_detector
    from visionserve.models.builds.pictures import whole_sample

    picture = whole_sample(sample)
    found = find_detector(file)
    click.echo(f"detector from {found.source}")
    if not force and is_exported(found, output):
        click.echo(f"{output} holds this model already; --force exports it again")
        return
    exported = export_detector(found, output, picture)
    click.echo(f"wrote {exported.folder}, {exported.size / 1e6:.0f} MB")
    click.echo(f"in {sample}, as its network's own graph finds them:")
    height, width = picture.shape[:2]
    for seen in exported.objects:
        ymin, xmin, ymax, xmax = (seen.box * [height, width, height, width]).round().astype(int)
        click.echo(
            f"  {seen.score:.3f}  {seen.label}, x {xmin} to {xmax}, y {ymin} to {ymax} of {width}x{height} pixels"
        )
