import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import visionserve
from visionserve.inference.model_folder import OPENVINO_GRAPH, OPENVINO_WEIGHTS

# In a worker's working folder.
SHIPPED = "shipped"
IMAGES = "images.json"
MODEL = "model"
# A worker imports none of them.
LEFT_OUT = ("__pycache__", "bench", "cortex", "services")


class Shipment:
    """What Flink copies to each worker: this package, the model, and a list of images.

    `code`: the folder that holds the package; `archive`: a ZIP with the rest.
    """

    def __init__(self, folder: Path, model: Path, images: Iterable[str]) -> None:
        """`folder`: where to prepare it; `model`: a SavedModel's own folder, or an OpenVINO model's .xml file."""
        self.code = folder / "code"
        package = Path(visionserve.__file__).parent
        shutil.copytree(package, self.code / package.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        self.archive = folder / "shipped.zip"
        with zipfile.ZipFile(self.archive, "w") as archive:
            for path, name in _model_files(model):
                archive.write(path, f"{MODEL}/{name}")
            archive.writestr(IMAGES, json.dumps(list(images)))


def _model_files(model: Path) -> list[tuple[Path, str]]:
    if model.suffix == ".xml":
        return [(model, OPENVINO_GRAPH), (model.with_suffix(".bin"), OPENVINO_WEIGHTS)]
    return [(path, path.relative_to(model).as_posix()) for path in sorted(model.rglob("*")) if path.is_file()]
