from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from visionserve.errors import ModelError
from visionserve.models.builds.agreement import Agreement
from visionserve.models.checksum import digest

NAME = "model.json"


class WeightsOrigin(BaseModel):
    """`sha256` is of the file that the weights were read from; `epsilon` of every BatchNormalization among them, None
    where they hold none."""

    source: str
    sha256: str
    epsilon: float | None = None
    parameters: int


class Tensor(BaseModel):
    """A shape's None is the batch."""

    name: str
    dtype: str
    shape: list[int | None]


class Signature(BaseModel):
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Manifest(BaseModel):
    """The model.json in a build's folder: what it was made of, and the hash of each file in it.

    `settings`: what the compiler or converter of the target was told. `agreement`: with the CPU build it was made of.
    """

    model: str
    target: str
    recipe: int
    created: AwareDatetime
    weights: WeightsOrigin
    versions: dict[str, str]
    settings: dict[str, bool | int | float | str | list[int] | list[str]] = {}
    agreement: Agreement | None = None
    signatures: list[Signature]
    files: dict[str, str]
    classes: list[str]

    def write(self, folder: Path) -> None:
        (folder / NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def signature(self, name: str) -> Signature:
        return next(signature for signature in self.signatures if signature.name == name)

    def describes(self, folder: Path) -> bool:
        """Whether the folder holds exactly the files that it was written with."""
        return file_hashes(folder) == self.files


def read_manifest(folder: Path) -> Manifest:
    """Raises ModelError where the folder's model.json is missing or not one."""
    path = folder / NAME
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; export the model again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise ModelError(f"{path}: {where}: {first['msg']}; export the model again") from error


def file_hashes(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file in a build's folder but its model.json."""
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / NAME
    }
