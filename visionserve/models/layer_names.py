"""ResNet50's layers with weights, as keras.applications names them, and how older Keras named them."""

import re

Shape = tuple[int, ...]

STAGES = {2: (64, 3), 3: (128, 4), 4: (256, 6), 5: (512, 3)}
CLASSES = 1000
# In the order in which Keras stores them.
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_OLD_BLOCK = re.compile(r"(res|bn)([2-5])([a-f])_branch(1|2[abc])")
_OLD_NAMES = {
    "conv1": "conv1_conv",
    "bn_conv1": "conv1_bn",
    "fc1000": "predictions",
    "probs": "predictions",
}


def resnet50_shapes() -> dict[str, dict[str, Shape]]:
    """layer -> variable -> shape, for the 25,636,712 numbers of He et al.'s ResNet-50 (arXiv:1512.03385, table 1)."""
    layers: dict[str, dict[str, Shape]] = {}

    def convolution(name: str, side: int, inputs: int, filters: int) -> None:
        layers[f"{name}_conv"] = {"kernel": (side, side, inputs, filters), "bias": (filters,)}
        layers[f"{name}_bn"] = dict.fromkeys(BATCH_NORM, (filters,))

    convolution("conv1", 7, 3, 64)
    channels = 64
    for stage, (filters, blocks) in STAGES.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            if block == 1:
                convolution(f"{name}_0", 1, channels, 4 * filters)
            convolution(f"{name}_1", 1, channels, filters)
            convolution(f"{name}_2", 3, filters, filters)
            convolution(f"{name}_3", 1, filters, 4 * filters)
            channels = 4 * filters
    layers["predictions"] = {"kernel": (channels, CLASSES), "bias": (CLASSES,)}
    return layers


def is_old(name: str) -> bool:
    """Whether Keras 2.2 and earlier gave a ResNet50's layer this name."""
    return name in _OLD_NAMES or _OLD_BLOCK.fullmatch(name) is not None


def new_name(name: str) -> str:
    """Keras 3's name of a layer that older Keras called `name`; any other name is returned as it is."""
    match = _OLD_BLOCK.fullmatch(name)
    if match is None:
        return _OLD_NAMES.get(name, name)
    kind, stage, block, branch = match.groups()
    number = "0" if branch == "1" else str("abc".index(branch[1]) + 1)
    suffix = "conv" if kind == "res" else "bn"
    return f"conv{stage}_block{ord(block) - ord('a') + 1}_{number}_{suffix}"
