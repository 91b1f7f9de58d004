import math
from dataclasses import dataclass

from visionserve.errors import UsageError

# Of 255 levels: the original's own 103.94 is rounded from 103.939, and others round to 103.9.
MEAN_TOLERANCE = 0.06
SCALE_TOLERANCE = 1e-3

Mean = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """(pixels - mean_values) / scale, as OpenVINO's Model Optimizer defines its options reverse_input_channels,
    mean_values and scale, which Analytics Zoo's --ifReverseInputChannels, --meanValues and --scale become.

    The pictures that come in are in OpenCV's order there: blue, green, red. With `reverse_channels` the model sees red,
    green, blue. `mean_values`, 0..255, go in the order in which the model sees the channels, as does the subtraction
    after the reversal; `scale` divides what is left.
    """

    reverse_channels: bool
    mean_values: Mean
    scale: float

    def __str__(self) -> str:
        """As options."""
        return " ".join(_options(self.reverse_channels, self.mean_values, self.scale))


@dataclass(frozen=True)
class GivenPreprocessing:
    """What the options say of it; None for what was not given. Raises UsageError for values that mean nothing."""

    reverse_channels: bool | None = None
    mean_values: tuple[float, ...] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        mean, scale = self.mean_values, self.scale
        if mean is not None and not (len(mean) == 3 and all(map(math.isfinite, mean))):
            raise UsageError(
                f"--meanValues {_joined(mean)} is not one number for each channel, such as 123.68,116.78,103.94."
            )
        if scale is not None and not 0 < scale < math.inf:
            raise UsageError(f"--scale {scale:g} is not a number above 0, by which the pixels can be divided.")

    def completed(self, default: Preprocessing) -> Preprocessing:
        """With what was not given taken from `default`, whose means stay with their colors if the order is another."""
        reverse = default.reverse_channels if self.reverse_channels is None else self.reverse_channels
        blue_and_red_swap = reverse != default.reverse_channels
        first, second, third = default.mean_values[::-1] if blue_and_red_swap else default.mean_values
        if self.mean_values is not None:
            first, second, third = self.mean_values
        return Preprocessing(reverse, (first, second, third), default.scale if self.scale is None else self.scale)

    def contradictions(self, actual: Preprocessing) -> list[str]:
        """The given options that say something else than `actual` beyond rounding, as they are written."""
        reverse, mean, scale = self.reverse_channels, self.mean_values, self.scale
        if reverse == actual.reverse_channels:
            reverse = None
        if mean is not None and all(
            abs(given - is_) <= MEAN_TOLERANCE for given, is_ in zip(mean, actual.mean_values, strict=True)
        ):
            mean = None
        if scale is not None and math.isclose(scale, actual.scale, rel_tol=SCALE_TOLERANCE):
            scale = None
        return _options(reverse, mean, scale)


def _options(reverse: bool | None, mean: tuple[float, ...] | None, scale: float | None) -> list[str]:
    options = []
    if reverse is not None:
        options.append(f"--ifReverseInputChannels {str(reverse).lower()}")
    if mean is not None:
        options.append(f"--meanValues {_joined(mean)}")
    if scale is not None:
        options.append(f"--scale {scale:g}")
    return options


def _joined(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
