"""What TF-TRT needs of the machine, found without loading TensorFlow: without TensorRT's libraries it may abort."""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from visionserve.errors import MissingError

# The last that has TF-TRT. Its wheel opens TensorRT's libraries by these names, seen with LD_DEBUG=libs.
TENSORFLOW = "2.17"
LIBRARIES = ("libnvinfer.so.8.6.1", "libnvinfer_plugin.so.8.6.1")
# As getInferLibVersion numbers them: TensorFlow takes no older one than it was built with.
VERSIONS = range(8601, 8700)
# Where packages put them: tensorrt-libs 8.6, and tensorrt before.
PACKAGES = ("tensorrt_libs", "tensorrt")
DRIVER = "libcuda.so.1"
INSTALL_TENSORRT = "pip install tensorrt==8.6.1.post1"
ENVIRONMENT = (
    "python3.11 -m venv .venv-tensorrt && . .venv-tensorrt/bin/activate && pip install -r requirements/tensorrt.txt && "
    f"{INSTALL_TENSORRT} && pip install --no-deps ."
)
VERSION_OF_LIBRARIES = f"""
import ctypes
library, plugins = map(ctypes.CDLL, {LIBRARIES!r})
print(library.getInferLibVersion())
"""


@dataclass(frozen=True)
class Parts:
    """`tensorflow`, `tensorrt`: versions. `libraries`: their folder where the loader does not find them by itself."""

    tensorflow: str
    tensorrt: str
    libraries: Path | None
    gpu: str


def find_parts() -> Parts:
    """Raises MissingError for the first that is missing: TensorFlow with TF-TRT, TensorRT's libraries, a GPU."""
    tensorflow = _find_tensorflow()
    libraries, tensorrt = _find_libraries()
    return Parts(tensorflow, tensorrt, libraries, _find_gpu())


def _find_tensorflow() -> str:
    distributions = packages_distributions().get("tensorflow", [])
    if not distributions or find_spec("tensorflow") is None:
        raise MissingError(
            f"converting for TensorRT needs TensorFlow {TENSORFLOW}, which is not installed: run {ENVIRONMENT}"
        )
    found = version(distributions[0])
    if found.split(".")[:2] != TENSORFLOW.split("."):
        raise MissingError(
            f"converting for TensorRT needs the TF-TRT of TensorFlow {TENSORFLOW}, and this is TensorFlow {found}: "
            f"run {ENVIRONMENT}"
        )
    return found


def _find_libraries() -> tuple[Path | None, str]:
    """Their folder, None where the loader finds them by itself, and their version."""
    specs = [find_spec(package) for package in PACKAGES]
    folders = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or []]
    reason = "they are not here"
    for folder in [None, *folders]:
        if folder and not all(_file_in(folder, name) for name in LIBRARIES):
            continue
        with library_path(folder) as path:
            # In a process of its own: a library that is not what it seems to be may end it.
            asked = subprocess.run(
                [sys.executable, "-c", VERSION_OF_LIBRARIES],
                env={**os.environ, "LD_LIBRARY_PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
        number = int(asked.stdout) if asked.stdout.strip().isdigit() else 0
        found = f"{number // 1000}.{number // 100 % 10}.{number % 100}"
        if number in VERSIONS:
            return folder, found
        if folder:
            problem = f"are of TensorRT {found}" if number else "cannot be loaded"
            reason = f"those in {folder} {problem}"
    raise MissingError(
        f"TensorFlow {TENSORFLOW} needs TensorRT 8.6's {' and '.join(LIBRARIES)}, and {reason}: run {INSTALL_TENSORRT}"
    )


def _find_gpu() -> str:
    """The name of the first GPU."""
    try:
        driver = ctypes.CDLL(DRIVER)
        count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        failed = 1
    if failed or not count.value:
        raise MissingError(
            "TensorRT builds its engines on the GPU that is to run them, and this machine has none: take one with an "
            "NVIDIA GPU, and if it is one, run sudo ubuntu-drivers install, until nvidia-smi lists it"
        )
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode()


@contextmanager
def library_path(folder: Path | None) -> Iterator[str]:
    """LD_LIBRARY_PATH for a process that is to find the libraries in `folder` under the names of LIBRARIES.

    pip's are named libnvinfer.so.8 and lie where TensorFlow does not look. Loading them beforehand does not help, for
    the loader knows a library by the name in it, which is the short one too; and TensorRT opens another one by name.
    """
    spec = find_spec("nvidia")
    cuda = [lib for place in (spec and spec.submodule_search_locations) or [] for lib in Path(place).glob("*/lib")]
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as links:
        if folder:
            for name in LIBRARIES:
                (Path(links) / name).symlink_to(_file_in(folder, name) or folder / name)
        places = [links, folder, *cuda, os.environ.get("LD_LIBRARY_PATH")]
        yield os.pathsep.join(str(place) for place in places if place)


def _file_in(folder: Path, name: str) -> Path | None:
    """The file of that name, or of its major version only."""
    candidates = (folder / name, folder / name.removesuffix(".6.1"))
    return next((path.resolve() for path in candidates if path.is_file()), None)
