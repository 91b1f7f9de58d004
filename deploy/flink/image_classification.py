"""The job for Flink's own command: flink run -py deploy/flink/image_classification.py --imageFolder DIR ..."""

from visionserve.streaming.command import stream

if __name__ == "__main__":
    stream()
