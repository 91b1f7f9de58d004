"""The job: names of images -> answers -> rows to files or to the client."""

from pathlib import Path

from pyflink.common import Encoder, Time, Types, WatermarkStrategy
from pyflink.datastream import AsyncDataStream, DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.functions import SourceFunction
from pyflink.java_gateway import get_gateway

from visionserve.streaming.flink_options import BUNDLE
from visionserve.streaming.operators import BROKEN, Classify, Divide, ImageName, NewImages
from visionserve.streaming.settings import StreamSettings
from visionserve.streaming.shipment import SHIPPED, Shipment

NAME = "visionserve image classification"
# Of a watched folder, a second.
LOOKS = 1


def build_job(
    environment: StreamExecutionEnvironment,
    settings: StreamSettings,
    shipment: Shipment,
    images: int,
    tasks: int,
    sinks: tuple[Path | None, Path | None],
) -> DataStream | None:
    """Puts the job together. `images`: how many are listed, if they are; `tasks`: that share a machine's cores;
    `sinks`: folders for rows and for broken rows. Those without one are the stream that it gives, for the client.
    """
    environment.add_python_file(str(shipment.code))
    environment.add_python_archive(str(shipment.archive), SHIPPED)
    names = _watched(environment, settings) if settings.watch else _listed(environment, images)
    classify = Classify(settings.image_folder.absolute(), settings.model, settings.threads, tasks)
    # Without a timeout, which would cost a thread for each image.
    answers = AsyncDataStream.unordered_wait(names, classify, Time.seconds(0), BUNDLE).name("classify")
    rows = answers.process(Divide(), Types.STRING()).name("divide")
    broken = rows.get_side_output(BROKEN)
    client = []
    for stream, folder, name in zip((rows, broken), sinks, ("rows", "broken"), strict=True):
        if folder:
            # In a task of its own, so that Flink counts the rows that come to it.
            stream.sink_to(_files(folder)).name(name).disable_chaining()
        else:
            client.append(stream)
    return client[0].union(*client[1:]) if client else None


def _listed(environment: StreamExecutionEnvironment, images: int) -> DataStream:
    source = NumberSequenceSource(0, images - 1)
    numbers = environment.from_source(source, WatermarkStrategy.no_watermarks(), "images")
    return numbers.map(ImageName(), Types.STRING()).name("name")


def _watched(environment: StreamExecutionEnvironment, settings: StreamSettings) -> DataStream:
    generators = get_gateway().jvm.org.apache.flink.streaming.api.functions.source.datagen
    ticks = generators.DataGeneratorSource(generators.RandomGenerator.longGenerator(0, 1), LOOKS, None)
    source = environment.add_source(SourceFunction(ticks), "ticks", Types.LONG()).set_parallelism(1)
    keyed = source.key_by(lambda tick: 0, Types.INT())
    names = keyed.process(NewImages(settings.image_folder.absolute()), Types.STRING()).name("watch")
    return names.set_parallelism(1).rebalance()


def _files(folder: Path) -> FileSink:
    """Files of rows that get their names when a checkpoint is complete."""
    return (
        # Flink's Path takes a string as it is: it would not decode a URI's %20.
        FileSink.for_row_format(f"file://{folder}", Encoder.simple_string_encoder("UTF-8"))
        .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .with_output_file_config(OutputFileConfig.builder().with_part_prefix("part").with_part_suffix(".jsonl").build())
        .build()
    )
