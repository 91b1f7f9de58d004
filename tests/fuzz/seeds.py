"""What the fuzzing starts from: small real photographs in every format, and bodies that the front doors answer."""

import base64
import io
import json

import numpy as np
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.predict_pb2 import PredictRequest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.photos import photographs
from visionserve.inference import tensors

SIZE = 48, 36
BOUNDARY = b"limit"
MULTIPART = "multipart/form-data; boundary=limit"


def images() -> list[bytes]:
    """JPEG, PNG, WebP, BMP and GIF files of 48x36 pixels, plain and with what each format offers besides."""
    photo = Image.fromarray(photographs()["chelsea"]).resize(SIZE)
    other = Image.fromarray(photographs()["coffee"]).resize(SIZE)
    clear = photo.copy()
    clear.putalpha(photo.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    moving = {"save_all": True, "append_images": [other]}
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    return [
        _file(photo, "JPEG"),
        _file(photo, "JPEG", exif=exif.tobytes()),
        _file(photo, "JPEG", progressive=True, quality=60),
        _file(photo.convert("L"), "JPEG"),
        _file(photo.convert("CMYK"), "JPEG"),
        _file(photo, "PNG"),
        _file(photo, "PNG", exif=exif.tobytes(), icc_profile=bytes(200)),
        _file(clear, "PNG"),
        _file(deep, "PNG"),
        _file(photo.quantize(16), "PNG", transparency=bytes(range(0, 160, 10))),
        _file(photo, "PNG", transparency=(143, 120, 104)),
        _file(photo, "PNG", **moving),
        _file(photo, "WEBP"),
        _file(clear, "WEBP", exif=exif.tobytes()),
        _file(photo, "WEBP", lossless=True),
        _file(photo, "WEBP", **moving),
        _file(photo, "BMP"),
        _file(photo.quantize(16), "BMP"),
        _file(clear, "BMP"),
        _file(photo, "GIF"),
        _file(photo, "GIF", transparency=3, **moving),
    ]


def payloads() -> list[bytes]:
    """JSON bodies of POST / at a Cortex API."""
    texts = [base64.b64encode(image).decode() for image in images()[::4]]
    fields = [
        {"img": texts[0]},
        {"imgs": texts},
        {"url": "http://localhost/cat.jpg"},
        {"img": "data:image/png;base64,"},
    ]
    return [json.dumps(each).encode() for each in [*fields, {"img": None, "imgs": [1, -2.5e3, True, "\u00e9\n"]}, []]]


def forms() -> list[bytes]:
    """Bodies of type MULTIPART, their boundary being BOUNDARY."""
    cat, others = images()[0], images()[5:20:5]
    many = b"".join(_part(f'name="image"; filename="{number}.png"', data) for number, data in enumerate(others))
    return [
        _part('name="image"; filename="cat.jpg"\r\nContent-Type: image/jpeg', cat) + b"--limit--\r\n",
        many + b"--limit--\r\n",
        _part('name="img"', base64.b64encode(cat)) + _part('name="note"', b"a cat") + b"--limit--\r\n",
    ]


def specs() -> list[bytes]:
    own = [(REPOSITORY / f"cortex_{name}.yaml").read_bytes() for name in ("cpu", "gpu", "accelerator")]
    return [*own, (REPOSITORY / "tests" / "cortex" / "specs" / "every_field.yaml").read_bytes()]


def notifications() -> list[bytes]:
    """CloudEvents, S3's bare notification and a record of it, each after a first byte that chooses its headers."""
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "photos"}, "object": {"key": "a+cat%20.jpg", "size": 10}},
    }
    bare = {"Records": [record, {**record, "eventSource": "ceph:s3"}]}
    event = {"specversion": "1.0", "id": "7", "type": "s3", "source": "/ceph", "datacontenttype": "application/json"}
    bodies = [bare, {**event, "data": bare}, {**event, "data_base64": base64.b64encode(b"{}").decode()}, record, bare]
    return [bytes([number]) + json.dumps(body).encode() for number, body in enumerate(bodies)]


def predict_requests() -> list[bytes]:
    """PredictRequests for models of the signatures in tests.fuzz.targets, on the wire."""
    arrays = [
        np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
        np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
        np.array([images()[0], b"x"], object),
        np.array([[1, -2]], np.int64),
        np.array([1.5], np.float16),
    ]
    requests = []
    for array in arrays:
        for write in (tensors.write_request, tensors.write_response):
            request = PredictRequest()
            request.model_spec.name = "resnet50"
            write(array, request.inputs["input"])
            requests.append(request.SerializeToString())
    return requests


def predict_bodies() -> list[bytes]:
    """JSON of TensorFlow Serving's :predict."""
    pixels = np.arange(2 * 20 * 20 * 3, dtype=np.uint8).reshape(2, 20, 20, 3).tolist()
    b64 = {"b64": base64.b64encode(images()[0]).decode()}
    bodies = [
        {"instances": pixels},
        {"inputs": {"input": pixels[:1]}},
        {"instances": [{"x": [1.5, -2], "s": "a"}, {"x": [0, 3e8], "s": b64}], "signature_name": "mixed"},
        {"instances": [b64, b64], "signature_name": "bytes"},
        {"inputs": {"x": [[0.1]], "s": ["\u00e9"]}, "signature_name": "mixed"},
    ]
    return [json.dumps(body).encode() for body in bodies]


def urls() -> list[bytes]:
    return [
        b"http://example.com:80/a/b%20c.jpg?size=1#top",
        b"https://[2001:db8::1]:8443/\xc3\xa9",
        b"http://user:secret@127.0.0.1/..%2f",
        "http://b\u00fccher.example./\u2100".encode(),
    ]


def _file(photo: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    photo.save(file, kind, **options)
    return file.getvalue()


def _part(disposition: str, data: bytes) -> bytes:
    return b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY, disposition.encode(), data)
