import math

_SUFFIXES = {
    "Pi": 2**50, "P": 10**15, "Ti": 2**40, "T": 10**12, "Gi": 2**30, "G": 10**9, "Mi": 2**20, "M": 10**6, "Ki": 2**10,
    "k": 10**3,
}  # fmt: skip


def cpu_quantity(cores: float) -> str:
    """Cores as Kubernetes writes them, rounded up to a thousandth of one: 3, 200m."""
    thousandths = math.ceil(round(cores * 1000, 6))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def memory_quantity(size: int) -> str:
    """Bytes as Kubernetes writes them, with the largest suffix that divides them: 2G, 512Mi."""
    for suffix, unit in _SUFFIXES.items():
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
