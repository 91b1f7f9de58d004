from pathlib import Path

from visionserve.errors import ModelError


def find_version(folder: Path) -> tuple[int, Path]:
    """The highest version under a model folder laid out as TensorFlow Serving reads it: FOLDER/VERSION/saved_model.pb.

    A folder that is itself a SavedModel counts as version 1. Raises ModelError for anything else.
    """
    if not folder.is_dir():
        raise ModelError(
            f"The model folder {folder} is missing: make it with visionserve export, or correct model_path."
        )
    if is_saved_model(folder):
        return 1, folder
    versions = {
        int(child.name): child for child in folder.iterdir() if child.name.isdecimal() and is_saved_model(child)
    }
    if not versions:
        raise ModelError(
            f"{folder} is not a SavedModel: it holds neither saved_model.pb nor a numbered version folder with one."
        )
    return max(versions.items())


def is_saved_model(folder: Path) -> bool:
    return (folder / "saved_model.pb").is_file()
