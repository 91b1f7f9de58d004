"""CPU time of one encoded picture becoming the network's pixels, in ms on one core; the least of several rounds."""

import time
from collections.abc import Callable

import click
import cv2
import numpy as np
from deployment import machine, sample_photo

from visionserve.vision import jpeg
from visionserve.vision.pixels import to_input

SIZES = ((224, 224), (640, 427), (1000, 667), (4000, 2668))
BYTES = 57000


def encoded(size: tuple[int, int], suffix: str, quality: int = 90) -> bytes:
    """The sample's photograph, of `size` (W, H) pixels."""
    photo = cv2.resize(sample_photo(), size, interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, photo, options)[1].tobytes()


def cpu_ms(work: Callable[[], object], rounds: int) -> float:
    """The least mean over `rounds` of 20 calls: what other processes take from the caches only adds to it."""
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(20):
            work()
        times.append((time.thread_time() - started) * 1000 / 20)
    return min(times)


@click.command()
@click.option("--rounds", default=10, show_default=True, help="Rounds of 20 calls a picture.")
def main(rounds: int) -> None:
    """Example: scripts/bench pixels --rounds 30"""
    cv2.setNumThreads(1)
    print(machine())
    print(f"OpenCV {cv2.__version__}, {'with' if jpeg.simplejpeg else 'without'} simplejpeg, numpy {np.__version__}")
    print("| picture | KB | CPU ms |\n|---|---|---|")
    pictures = {f"JPEG {width}x{height}": encoded((width, height), ".jpg") for width, height in SIZES}
    # The size of the pictures that the serving benchmark sends.
    files = (encoded((640, 427), ".jpg", quality) for quality in range(50, 96))
    pictures["JPEG 640x427"] = min(files, key=lambda file: abs(len(file) - BYTES))
    pictures["PNG 640x427"] = encoded((640, 427), ".png")
    for name, data in pictures.items():
        print(f"| {name} | {len(data) / 1000:.0f} | {cpu_ms(lambda data=data: to_input(data), rounds):.2f} |")


if __name__ == "__main__":
    main()
