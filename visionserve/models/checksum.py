import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """A hash function as hashlib names it, and the digest in hexadecimal."""

    algorithm: str
    digest: str

    @classmethod
    def of_integrity(cls, integrity: str) -> "Checksum":
        """From W3C Subresource Integrity's form, `sha512-<base64>`, which npm uses."""
        algorithm, _, encoded = integrity.partition("-")
        return cls(algorithm, base64.b64decode(encoded, validate=True).hex())

    def matches(self, path: Path) -> bool:
        return digest(path, self.algorithm) == self.digest


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The file's hash in hexadecimal."""
    function = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            function.update(block)
    return function.hexdigest()
