"""Probabilities -> names."""

import json
import os
from typing import Any, List, Sequence, Tuple

import numpy as np

IMAGENET_CLASSES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "imagenet_classes.json")


def load_classes(path_or_url: str, timeout: float = 10.0) -> List[str]:
    """The class names in the model's order, from a JSON file or an http(s) URL (`timeout` in seconds).

    Two forms: a list of names, or Keras's and Cortex's {"0": ["n01440764", "tench"], ...}.
    ValueError, one sentence, for a source that cannot be read or holds neither.
    """
    path_or_url = str(path_or_url)
    try:
        if path_or_url.lower().startswith(("http://", "https://")):
            import requests

            with requests.get(path_or_url, timeout=timeout) as answer:
                answer.raise_for_status()
                content = json.loads(answer.content.decode("utf-8"))
        else:
            with open(path_or_url, encoding="utf-8") as file:
                content = json.load(file)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise ValueError("classes: {} cannot be read as JSON: {}".format(path_or_url, error)) from error
    names = _names(content)
    if not names:
        raise ValueError(
            'classes: {} must be a JSON list of names or {{"0": ["n01440764", "tench"], ...}}'.format(path_or_url)
        )
    return names


def _names(content: Any) -> List[str]:
    if isinstance(content, dict):
        if set(content) != {str(index) for index in range(len(content))}:
            return []
        entries = [content[str(index)] for index in range(len(content))]
        content = [entry[-1] if isinstance(entry, list) and entry else entry for entry in entries]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        return []
    return content


def top_k(probabilities: np.ndarray, classes: Sequence[str], k: int = 5) -> List[List[Tuple[str, float]]]:
    """`probabilities` [N, K] -> for each row its k likeliest (label, probability), most likely first."""
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            "the model gave an output of shape {} where [N, {}] was expected: {} classes are named".format(
                list(probabilities.shape), len(classes), len(classes)
            )
        )
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return [[(classes[i], float(probabilities[row, i])) for i in best] for row, best in enumerate(order)]
