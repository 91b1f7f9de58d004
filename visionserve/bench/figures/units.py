def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def rate(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
