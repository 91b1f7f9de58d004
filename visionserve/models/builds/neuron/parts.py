"""What compiling for Neuron needs of the machine; found without loading TensorFlow."""

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from visionserve.errors import MissingError
from visionserve.models.builds.neuron.compilers import COMPILERS, Compiler

DEVICES = Path("/dev")


def find_compiler() -> Compiler:
    """The one of the two that is installed. Raises MissingError, with the commands that install it."""
    broken = []
    for compiler in COMPILERS:
        found = installed_version(compiler.package)
        if found is None:
            continue
        if int(found.partition(".")[0]) < 2:
            broken.append(_broken(compiler, f"is {found}, a placeholder or too old,"))
        elif not _finds(compiler.command):
            broken.append(_broken(compiler, f"has no {compiler.command} beside it,"))
        else:
            return compiler
    if broken:
        raise MissingError(broken[0])
    raise MissingError(
        "compiling for Neuron needs tensorflow-neuron (inf1) or tensorflow-neuronx (inf2, trn1), and neither is "
        f"installed: {_install(*COMPILERS)}"
    )


def check_device(compiler: Compiler) -> None:
    """Raises MissingError where there is no Neuron device, which a build must be checked on."""
    if not any(re.fullmatch(r"neuron\d+", path.name) for path in DEVICES.iterdir()):
        raise MissingError(
            f"this machine has no Neuron device to check the build on, it would show as {DEVICES / 'neuron0'}: take an "
            f"{compiler.instances} instance, and if it is one, run sudo apt-get install aws-neuronx-dkms"
        )


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finds(command: str) -> bool:
    # Beside the interpreter and then on the path, as the tracing API looks for it.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return shutil.which(command, path=os.pathsep.join(places)) is not None


def _broken(compiler: Compiler, state: str) -> str:
    return f"{compiler.package} {state} so that nothing can be compiled for {compiler.instances}: {_install(compiler)}"


def _install(*compilers: Compiler) -> str:
    commands = " or ".join(f"pip install -r {compiler.requirements}" for compiler in compilers)
    ready = " or ".join(f"source {compiler.virtual_environment}/bin/activate" for compiler in compilers)
    return (
        f"in Python 3.10, with the index that AWS's Neuron setup guide names in PIP_EXTRA_INDEX_URL, run {commands}, "
        f"or on AWS's multi-framework DLAMI {ready}"
    )
