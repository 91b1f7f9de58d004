"""What the job runs inside Flink's Python workers. They find what a Shipment sent in their working folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Types
from pyflink.datastream import (
    AsyncFunction,
    KeyedProcessFunction,
    MapFunction,
    OutputTag,
    ProcessFunction,
    RuntimeContext,
)
from pyflink.datastream.state import MapStateDescriptor

from visionserve.streaming.classify import Answer, Classifier, task_threads
from visionserve.streaming.folder_watch import FolderWatch
from visionserve.streaming.model_options import ModelOptions
from visionserve.streaming.shipment import IMAGES, MODEL, SHIPPED

BROKEN = OutputTag("broken", Types.STRING())


class ImageName(MapFunction):
    """The number of an image in the list that the job brought -> its name."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._names = shipped_names()

    def map(self, value: int) -> str:
        return self._names[value]


class NewImages(KeyedProcessFunction):
    """A tick -> the names of the images that have come into the folder since the last one.

    All ticks have one key. What was taken is Flink's state: after a restart it is as at the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watch: FolderWatch | None = None

    def open(self, runtime_context: RuntimeContext) -> None:
        self._taken = runtime_context.get_map_state(MapStateDescriptor("taken", Types.STRING(), Types.BOOLEAN()))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        if self._watch is None:
            self._watch = FolderWatch(self._folder, [*shipped_names(), *self._taken.keys()])
        for name in self._watch.look():
            self._taken.put(name, True)
            yield name


class Classify(AsyncFunction):
    """The name of an image -> its Answer. Flink has all those that it began finished before a checkpoint."""

    def __init__(self, folder: Path, options: ModelOptions, threads: int | None, tasks: int) -> None:
        self._folder = folder
        self._options = options
        self._threads = threads
        self._tasks = tasks

    def open(self, runtime_context: RuntimeContext) -> None:
        threads = task_threads(self._threads, self._tasks)
        self._classifier = Classifier(self._folder, Path(SHIPPED, MODEL), self._options, threads)

    def close(self) -> None:
        self._classifier.close()

    async def async_invoke(self, value: str) -> list[Answer]:
        return [await self._classifier.classify(value)]


class Divide(ProcessFunction):
    """Answers -> rows, those of broken images to the side output."""

    def process_element(self, value: Answer, ctx: ProcessFunction.Context) -> Iterator[Any]:
        yield (BROKEN, value.row) if value.broken else value.row


def shipped_names() -> list[str]:
    return json.loads(Path(SHIPPED, IMAGES).read_text())
