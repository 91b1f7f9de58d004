"""ResNet50 behind a Cortex API: payload -> pixels -> one batch -> the five likeliest labels of each image."""

import os

import numpy as np
from starlette.responses import JSONResponse

from visionserve.vision.errors import PayloadError
from visionserve.vision.fetch import Fetcher
from visionserve.vision.labels import load_classes, top_k
from visionserve.vision.payload import read_request, to_batch
from visionserve.vision.settings import read_settings

PROJECT = os.path.dirname(os.path.abspath(__file__))


class TensorFlowPredictor:
    def __init__(self, tensorflow_client, config):
        """`tensorflow_client.predict({input_key: uint8 [N, H, W, 3]})` gives {output_key: N * K probabilities}.

        `config`: the spec's `predictor.config`, see visionserve.vision.settings; ValueError when it is wrong.
        """
        self.client = tensorflow_client
        self.settings = read_settings(config)
        self.fetcher = Fetcher(self.settings.allow_urls, self.settings.timeout)
        source = self.settings.classes
        if not source.lower().startswith(("http://", "https://")):
            source = os.path.join(PROJECT, source)
        self.classes = load_classes(source, self.settings.timeout)

    def predict(self, payload, query_params):
        """Five labels for one image, a list of five-label lists for several; with ?scores=true their probabilities.

        A payload that is wrong gives a response of status 400 that names the entry.
        """
        settings = self.settings
        try:
            request = read_request(payload, self.fetcher.get, settings.max_images)
            batch = to_batch(request, settings.input_shape, settings.max_pixels)
        except PayloadError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        rows = top_k(self.probabilities(batch), self.classes)
        if wants_scores(query_params):
            answers = [[{"label": label, "probability": p} for label, p in row] for row in rows]
        else:
            answers = [[label for label, _ in row] for row in rows]
        return answers if request.many else answers[0]

    def probabilities(self, batch):
        """uint8 [N, H, W, 3] -> float32 [N, K]; Cortex's own client gives the N * K numbers as a flat list."""
        output = self.client.predict({self.settings.input_key: batch})
        if self.settings.output_key not in output:
            raise ValueError(
                "the model gives no {!r} but {}: set config.output_key".format(
                    self.settings.output_key, ", ".join(sorted(output))
                )
            )
        numbers = np.asarray(output[self.settings.output_key], np.float32)
        if numbers.size != len(batch) * len(self.classes):
            raise ValueError(
                "the model gives {:g} numbers an image where {} classes are named: set config.classes".format(
                    numbers.size / len(batch), len(self.classes)
                )
            )
        return numbers.reshape(len(batch), len(self.classes))


def wants_scores(query_params):
    return str((query_params or {}).get("scores", "")).lower() in ("true", "1", "yes")
