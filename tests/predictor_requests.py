"""What the tests of predictor.py send, and the client they put behind it."""

import asyncio
import base64
import io
import json
import os

import numpy as np
import skimage.data
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIVE = ["Egyptian_cat", "tiger_cat", "tabby", "lynx", "tench"]
CHANCES = {285: 0.5, 282: 0.2, 281: 0.15, 287: 0.1, 0: 0.05}


class RecordingClient:
    """Stands for Cortex's TensorFlow client: keeps what it is asked and answers `CHANCES` for every image.

    Journeys with the real model are in tests/e2e; here it matters what the predictor sends and how it reads answers.
    """

    def __init__(self, flat=True, classes=1000):
        self.flat, self.classes, self.batches = flat, classes, []

    def predict(self, inputs):
        ((self.key, batch),) = inputs.items()
        self.batches.append(batch)
        rows = np.zeros((len(batch), self.classes), np.float32)
        for index, chance in CHANCES.items():
            rows[:, index] = chance
        return {"output": rows.ravel().tolist() if self.flat else rows}


def jpeg(name="chelsea", **options):
    file = io.BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(file, "JPEG", **options)
    return file.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def error_of(answer):
    assert isinstance(answer, JSONResponse)
    assert answer.status_code == 400
    body = json.loads(answer.body)
    assert list(body) == ["error"]
    return body["error"]


def form_of(body, content_type):
    """The FormData that starlette makes of a real request's bytes."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)

    async def read():
        return await request.form()

    return asyncio.new_event_loop().run_until_complete(read())


def multipart(*parts):
    body = b""
    for name, filename, data in parts:
        shown = f'; filename="{filename}"' if filename else ""
        body += f'--limit\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode()
        body += data + b"\r\n"
    return form_of(body + b"--limit--\r\n", "multipart/form-data; boundary=limit")
