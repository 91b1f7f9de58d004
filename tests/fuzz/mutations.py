"""A file or a body -> another that is wrong somewhere, sometimes where the format says that it is right."""

import struct
import zlib
from collections.abc import Sequence
from random import Random

LONGEST = 1 << 16
NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
TOKENS = (
    b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"[[[[[[[[", b",", b":", b"null", b"true",
    b"NaN", b"-0", b"1e999", b"-1e-999", b"9" * 40, b"0x1f", b"{}", b"[]", b'""', b"\r\n", b"\n", b"\0", b"\xff",
    b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9", b"--limit", b"--limit--", b"&a", b"*a", b"<<:", b"- ", b"  ", b"\t",
    b"!!python/object:os.system", b"%00", b"../", b"s3://", b";", b"=", "\u202e".encode(), "\U0001f600".encode(),
    b"\xed\xa0\x80", b"1_0", b"1:30", b"~", b"|", b">",
)  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """1 to 4 changes, one after another; `others` are what parts are taken from."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        parts = _parts(data)
        if parts and random.random() < 0.5:
            data = _joined(data, _shuffled(parts, _parts(random.choice(others)) or parts, random), random)
        else:
            data = _blind(data, others, random)
    return data[:LONGEST]


def _blind(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + int(2 ** random.uniform(0, 10)))
    return random.choice(
        (
            lambda: data[:at] + random.randbytes(end - at) + data[end:],
            lambda: data[:at] + bytes([random.randrange(256)]) + data[at + 1 :],
            lambda: data[:at] + data[end:],
            lambda: data[:end] + data[at:end] * random.randrange(1, 20) + data[end:],
            lambda: data[:at],
            lambda: data[:at] + random.choice(TOKENS) * random.choice((1, 1, 1, 2, 300)) + data[at:],
            lambda: data[:at] + _number(random) + data[at:],
            lambda: _over(data, at, _number(random)),
            lambda: data[:at] + _slice(random.choice(others), random) + data[end:],
        )
    )()


def _number(random: Random) -> bytes:
    kind = random.choice("BHIQ")
    number = (random.choice(NUMBERS) + random.choice((0, 0, -1, 1))) % (1 << 8 * struct.calcsize(kind))
    return struct.pack(random.choice("<>") + kind, number)


def _over(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def _slice(data: bytes, random: Random) -> bytes:
    start, end = sorted((random.randrange(len(data) + 1), random.randrange(len(data) + 1)))
    return data[start:end]


def _parts(data: bytes) -> list[bytes]:
    """What a PNG, JPEG or WebP file is made of: chunks as kind and body, segments; [] for others."""
    parts, at = [], {PNG[:4]: 8, b"\xff\xd8\xff": 2, b"RIFF": 12}.get(data[: 3 if data[:1] == b"\xff" else 4], 0)
    while at and at + 12 <= len(data) and len(parts) < 200:
        if data[:4] == PNG[:4]:
            (length,) = struct.unpack_from(">I", data, at)
            part, at = data[at + 4 : at + 8 + length], at + 12 + length
        elif data[:4] == b"RIFF":
            (length,) = struct.unpack_from("<I", data, at + 4)
            part, at = data[at : at + 4] + data[at + 8 : at + 8 + length], at + 8 + length + (length & 1)
        else:
            end = len(data) if data[at + 1] == 0xDA else at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            part, at = data[at:end], end
        parts.append(part)
    return parts


def _shuffled(parts: list[bytes], others: list[bytes], random: Random) -> list[bytes]:
    at, other = random.randrange(len(parts)), random.choice(others)
    part = parts[at]
    return random.choice(
        (
            lambda: parts[:at] + parts[at + 1 :],
            lambda: parts[:at] + [part] * random.choice((2, 3, 60)) + parts[at + 1 :],
            lambda: [*parts[:at], other, *parts[at:]],
            lambda: random.sample(parts, len(parts)),
            lambda: [*parts[:at], _over(part, random.randrange(4, len(part) + 5), _number(random)), *parts[at + 1 :]],
            lambda: [*parts[:at], part[: random.randrange(len(part) + 1)], *parts[at + 1 :]],
        )
    )()


def _joined(data: bytes, parts: list[bytes], random: Random) -> bytes:
    """With lengths and check sums that are right but for a few."""
    lie = _number(random) if random.random() < 0.1 else b""
    if data[:4] == PNG[:4]:
        chunks = (
            struct.pack(">I", max(len(part) - 4, 0)) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
        )
        return PNG + _over(b"".join(chunks), 0, lie)
    if data[:4] == b"RIFF":
        body = b"WEBP" + b"".join(
            part[:4] + struct.pack("<I", max(len(part) - 4, 0)) + part[4:] + bytes(len(part) & 1) for part in parts
        )
        return b"RIFF" + _over(struct.pack("<I", len(body)) + body, 0, lie[:4])
    return b"\xff\xd8" + b"".join(part[:2] + _length(part) + part[4:] for part in parts)


def _length(part: bytes) -> bytes:
    # A scan's header is told its length by what is in it; the rest of the file hangs on it here.
    return part[2:4] if part[1:2] == b"\xda" else struct.pack(">H", min(max(len(part) - 2, 2), 0xFFFF))
