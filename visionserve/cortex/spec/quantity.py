import math
import re
from fractions import Fraction

_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_MEMORY_UNITS = {**_DECIMAL, **_BINARY}
# Two digits of exponent reach past an exabyte; more would only cost memory to multiply out.
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2}))?"

SMALLEST_CPU = 0.02
SMALLEST_MEMORY = 20 * 2**20


def _number(digits: str, exponent: str | None) -> Fraction:
    return Fraction(digits) * Fraction(10) ** int(exponent or 0)


def _text(value: object, kind: str, examples: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is not {kind}: write {examples}")
    return str(value)


def parse_cpu(value: object) -> float:
    """Cores of a Kubernetes CPU quantity: 200m, 1, 0.5. Raises ValueError below the 20m that Cortex allows."""
    match = re.fullmatch(_NUMBER + "(m?)", _text(value, "a number of cores", "200m, 0.5 or 2"), re.ASCII)
    if not match:
        raise ValueError("is not a number of cores: write 200m, 0.5 or 2")
    cores = float(_number(match[1], match[2]) / (1000 if match[3] else 1))
    if cores < SMALLEST_CPU:
        raise ValueError("is less than 20m, the smallest CPU request")
    return cores


def parse_memory(value: object) -> int:
    """Bytes, rounded up, of a Kubernetes memory quantity: 200Mi, 4G, 129e6. Raises ValueError below 20Mi."""
    units = "|".join(sorted(_MEMORY_UNITS, key=len, reverse=True))
    match = re.fullmatch(f"{_NUMBER}({units})", _text(value, "an amount of memory", "200Mi, 1Gi or 4G"), re.ASCII)
    if not match:
        raise ValueError("is not an amount of memory: write 200Mi, 1Gi or 4G")
    size = math.ceil(_number(match[1], match[2]) * _MEMORY_UNITS[match[3]])
    if size < SMALLEST_MEMORY:
        raise ValueError("is less than 20Mi, the smallest memory request")
    return size
