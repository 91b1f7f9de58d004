import base64
import binascii
import json
from pathlib import Path

import numpy as np

from visionserve.errors import UsageError
from visionserve.vision.errors import ImageError
from visionserve.vision.pixels import to_input


def sample_pixels(path: Path) -> np.ndarray:
    """The image in a {"img": "<base64>"} file -> uint8 RGB [224, 224, 3]. Raises UsageError naming what is wrong."""
    try:
        encoded = json.loads(path.read_text(encoding="utf-8"))["img"]
        return to_input(base64.b64decode(encoded, validate=True))
    except ImageError as error:
        raise UsageError(f"{path}: img {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a sample with --sample") from error
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError, binascii.Error) as error:
        raise UsageError(f'{path} is not a {{"img": "<base64 image>"}} file; name another with --sample') from error
