from dataclasses import dataclass

from visionserve.errors import UsageError
from visionserve.streaming.model_types import DEFAULT_MODEL_TYPE, preprocessing_of
from visionserve.streaming.preprocessing import GivenPreprocessing

DEFAULT_INPUT_SHAPE = (1, 224, 224, 3)


@dataclass(frozen=True)
class ModelOptions:
    """What Analytics Zoo's options of the same names say of a model; the fields are keyword arguments of
    InferenceModel's load_tf and load_openvino. None: as `model_type` has it.

    `input_shape`: [N, H, W, 3] or [N, 3, H, W]; of any N, as the batches of a stream differ in size. The others: see
    preprocessing.Preprocessing. Raises UsageError for what is none.
    """

    model_type: str = DEFAULT_MODEL_TYPE
    input_shape: tuple[int, ...] = DEFAULT_INPUT_SHAPE
    if_reverse_input_channels: bool | None = None
    mean_values: tuple[float, ...] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        preprocessing_of(self.model_type)
        _ = self.preprocessing
        shape = self.input_shape
        if len(shape) != 4 or min(shape) < 1 or 3 not in (shape[1], shape[3]):
            raise UsageError(f"--inputShape {self.shape_text} is neither 1,HEIGHT,WIDTH,3 nor 1,3,HEIGHT,WIDTH.")

    @property
    def preprocessing(self) -> GivenPreprocessing:
        return GivenPreprocessing(self.if_reverse_input_channels, self.mean_values, self.scale)

    @property
    def layout(self) -> str:
        """Of the model's own input, in OpenVINO's letters."""
        return "NHWC" if self.input_shape[3] == 3 else "NCHW"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels, as vision.pixels.to_input takes them."""
        height = self.layout.index("H")
        return self.input_shape[height], self.input_shape[height + 1]

    @property
    def shape_text(self) -> str:
        return ",".join(map(str, self.input_shape))


def numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers of "123.68,116.78,103.94". Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{option} {text} is not a list of numbers with commas between them.") from None


def shape(text: str) -> tuple[int, ...]:
    """The sizes of "1,224,224,3". Raises UsageError."""
    sizes = numbers(text, "inputShape")
    if not all(size.is_integer() for size in sizes):
        raise UsageError(f"--inputShape {text} is not a list of whole numbers with commas between them.")
    return tuple(map(int, sizes))
