from pathlib import Path
from typing import BinaryIO

import click


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--model", type=click.Path(path_type=Path), help="A detection SavedModel's folder; else DCF_MODEL.")
@click.option("--engine", help="auto, openvino or tensorflow; else DCF_ENGINE.")
@click.option(
    "--draw",
    "drawing",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the picture with the boxes drawn on it to this file.",
)
def dcf(file: BinaryIO, model: Path | None, engine: str | None, drawing: Path | None) -> None:
    """Prints the objects in a picture as DCF's function answers them: class, confidence and box as JSON.

    FILE, or without it standard input, is an image in base64, or an image file itself. Boxes are in pixels of the
    picture as it is shown, turned upright. The model is `visionserve export detector`'s unless another is named, which
    may be any with the outputs of TensorFlow's detection model zoo.

    \b
    Environment:
      DCF_MODEL           models/detector
      DCF_ENGINE          auto: OpenVINO where it can run the model, else TensorFlow
      DCF_MIN_CONFIDENCE  0.3: objects below it are left out
      DCF_MAX_OVERLAP     0.45: of two objects of one class that overlap more, one is left out
      DCF_MAX_OBJECTS     100
      DCF_CLASS_NAMES     1; 0 for the numbers of classes
      DCF_LABELS          a file of class names (.pbtxt or .json) in place of COCO's
      DCF_MAX_PIXELS      50000000

    \b
    Examples:
      cat photo.jpg | base64 | visionserve dcf
      visionserve dcf photo.jpg --draw boxes.png
    """
    from visionserve.services.dcf.answer import as_json, image_of
    from visionserve.services.dcf.detector import Detector
    from visionserve.services.dcf.drawing import check_drawing, draw
    from visionserve.services.dcf.settings import read_settings

    settings = read_settings(model=model, engine=engine)
    if drawing:
        check_drawing(drawing)
    image = image_of(file.read())
    objects = Detector(settings).find(image)
    click.echo(as_json(objects))
    if drawing:
        draw(image, objects, drawing, settings.max_pixels)
