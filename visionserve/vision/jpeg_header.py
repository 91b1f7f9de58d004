import re
import struct

import numpy as np

from visionserve.vision.errors import ImageError
from visionserve.vision.exif import exif_orientation
from visionserve.vision.header_fields import Header, too_many_parts

# Metadata of 100 MB are 2,000 of the largest segments.
MAX_SEGMENTS = 10000
# Encoders write about 10, and each is a pass over the whole image whatever it holds.
MAX_SCANS = 50
# A code of Huffman's has a bit at least, and there is one for each block of 8x8 samples.
PIXELS_PER_BYTE = 8 * 64

_MARKER = re.compile(b"\xff[^\0\xff]")
_MARKER_IN_SCANS = re.compile(b"\xff[^\0\xff\xd0-\xd7]")
_SCAN, _END = 0xDA, 0xD9
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = (0xC2, 0xCA)


def jpeg_header(data: bytes) -> Header:
    """ISO/IEC 10918-1, annex B. IndexError and struct.error for a header that is cut off, else ImageError."""
    # Bytes between segments are skipped as libjpeg does it, so that both see the same frame header.
    size, frame, components, orientation, at = None, 0, 0, 0, 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise IndexError
        marker, at = found.group()[1], found.end()
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        if marker == _END:
            raise ImageError("is not an image: its JPEG data hold no picture")
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, size, components = marker, struct.unpack_from(">HH", data, at + 3), data[at + 7]
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0" and not orientation:
            orientation = exif_orientation(data[at + 8 : at + length])
        elif marker == _SCAN:
            break
        at += max(length, 2)
    else:
        raise too_many_parts()
    if size is None:
        raise ImageError("is not an image: its JPEG data hold no frame header")
    height, width = size
    # Nothing more is read of a file whose first scan has all there is. The quick count also sees junk after the end.
    several = frame in _PROGRESSIVE or data[at + 2] < components
    if several and _count(data, b"\xff\xda") > MAX_SCANS and _scans(data, at) > MAX_SCANS:
        raise ImageError("is not an image that is read here: its JPEG data have more than {} scans".format(MAX_SCANS))
    # An end marker before the scan belongs to a thumbnail; bytes after the last one are trailing junk.
    complete = data.rfind(b"\xff\xd9", at) >= 0
    if frame in _HUFFMAN:
        complete = complete and (len(data) - at) * PIXELS_PER_BYTE >= width * height
    return Header("JPEG", width, height, orientation=orientation or 1, complete=complete)


def _count(data: bytes, pair: bytes) -> int:
    """How often two bytes stand in `data`; bytes.count takes ten times as long."""
    wanted = np.frombuffer(pair, np.uint16)
    both = (np.frombuffer(data, np.uint16, (len(data) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(words == wanted)) for words in both)


def _scans(data: bytes, at: int) -> int:
    """How many there are, as far as the limit; `at`: the length of the first one's header."""
    scans = 1
    for _ in range(MAX_SEGMENTS):
        (length,) = struct.unpack_from(">H", data, at)
        found = _MARKER_IN_SCANS.search(data, at + max(length, 2))
        while found is not None and found.group()[1] in (0x01, 0xD8):
            found = _MARKER_IN_SCANS.search(data, found.end())
        if found is None or found.group()[1] == _END:
            return scans
        scans, at = scans + (found.group()[1] == _SCAN), found.end()
        if scans > MAX_SCANS:
            return scans
    raise too_many_parts()
