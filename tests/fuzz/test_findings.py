"""What fuzzing found once, and what would have gone wrong in the same way."""

import json

import pytest

from tests.fuzz.targets import TARGETS

EVENT = {"specversion": "1.0", "id": "7", "type": "s3", "source": "/ceph", "data": {}}
RECORD = {"eventName": "x", "s3": {"bucket": {"name": "photos"}, "object": {"key": "\ud800"}}}


@pytest.mark.parametrize(
    ("target", "data"),
    [
        ("event", b"\1" + json.dumps({**EVENT, "a\ud800b": "x"}).encode()),
        ("event", b"\1" + json.dumps({**EVENT, "data": RECORD}).encode()),
        ("event", b"\0" + json.dumps(RECORD).encode()),
        ("proto", b"\n\n\n\x08resnet50\x12\x15\n\x05input\x12\x0c\x08\xd7?\x190 \x1f\xea\ry\xa7+"),
        ("url", 'http://b\u00fccher.example"./\u2100'.encode()),
        ("url", b"http://example.com/\xff"),
        ("body", b'{"url": "http://example.com/\\ud800"}'),
        ("body", b'{"img": ' + b"[" * 100_000),
        ("predict", b'{"signature_name": "\\ud800", "instances": [NaN]}'),
    ],
)
def test_a_finding_stays_fixed(target: str, data: bytes) -> None:
    TARGETS[target].check(data)
