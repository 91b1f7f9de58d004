"""A wall clock that can be set while a deployment runs, for the processes of that deployment only.

Debian's libfaketime 0.9.10 is not it: where it leaves the monotonic clock alone, as setting a clock does, every
time.sleep fails with EINVAL.
"""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    def __init__(self, folder: Path) -> None:
        library, self._file = folder / "clock.so", folder / "offset"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._file)}

    @staticmethod
    def available() -> bool:
        return shutil.which("cc") is not None

    def set(self, offset: int) -> None:
        """`offset`: seconds from the real time on."""
        with open(self._file, "r+b") as file:
            file.write(struct.pack("=q", offset))
