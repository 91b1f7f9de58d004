import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"


def parse_duration(text: str) -> float:
    """Seconds, to the nanosecond, of a duration as Go writes it: 100ms, 1.5s, 1h30m. Raises ValueError."""
    if not re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        raise ValueError("is not a duration: write a number and a unit, such as 100ms, 1.5s, 5m or 1h")
    return round(sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)), 9)


def format_duration(seconds: float) -> str:
    """The text that `parse_duration` reads as the same number of seconds."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
