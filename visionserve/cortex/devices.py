import re
from pathlib import Path

from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import DeploymentError

_DEVICES = Path("/dev")


def check_devices(spec: ApiSpec, devices: Path = _DEVICES) -> None:
    """Raises DeploymentError, naming what is missing, where the spec asks for a GPU or an Inferentia chip."""
    wanted = [
        ("gpu", spec.compute.gpu, r"nvidia\d+", "NVIDIA GPU", "nvidia0"),
        ("inf", spec.compute.inf, r"neuron\d+", "Neuron device", "neuron0"),
    ]
    for field, count, pattern, noun, example in wanted:
        found = sum(1 for path in devices.iterdir() if re.fullmatch(pattern, path.name)) if count else 0
        if found < count:
            has = f"only {found}" if found else "none"
            raise DeploymentError(
                f"{spec.file.name} asks for compute.{field}: {count}, but this machine has {has}: a {noun} shows as "
                f"{devices / example}; add --compute cpu to run the API on the CPU anyway."
            )
