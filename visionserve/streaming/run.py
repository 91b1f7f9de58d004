import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from visionserve.errors import InferenceError
from visionserve.streaming.checks import check_flink, check_model, find_model
from visionserve.streaming.gateway import java_gateway
from visionserve.streaming.image_folder import check_image_folder, list_images
from visionserve.streaming.interruption import noted
from visionserve.streaming.outputs import Outputs
from visionserve.streaming.settings import StreamSettings
from visionserve.streaming.submission import Submission
from visionserve.streaming.timeline import TimelineSampler

LAST_ROWS_SECONDS = 30.0


def run(settings: StreamSettings) -> bool:
    """Runs the job until it has ended; whether it did by itself, and not by Ctrl-C. Raises VisionserveErrors, before
    Java is started where that can tell, BrokenPipeError where nobody reads the rows, and KeyboardInterrupt while there
    is no job."""
    images: list[str] = []
    if settings.watch:
        check_image_folder(settings.image_folder)
    else:
        images = list_images(settings.image_folder)
    model = find_model(settings.checkpoint_path)
    check_flink(settings.cluster)
    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs(settings))
        check_model(model, settings.model)
        done = outputs.images() if settings.resume else set()
        images = [name for name in images if name not in done]
        if not images and not settings.watch:
            click.echo("All images are in the output: there is nothing left to classify.", err=True)
            return True
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visionserve-stream-")))
        given = stack.enter_context(java_gateway(folder, settings.log_folder))
        submission = Submission(settings, model, done if settings.watch else images, outputs.sinks, folder, given)
        # From here on a cluster may have the job, which must not be left there.
        with noted() as interrupted:
            job = submission.start()
            outputs.job_runs(job.rest, job.id)
            sampler = TimelineSampler(job.rest.url, job.id)
            if settings.timeline:
                sampler.start()
            if settings.watch:
                click.echo(f"Watching {settings.image_folder} until Ctrl-C.", err=True)
            try:
                ended = job.follow(outputs.convert, interrupted)
            except InferenceError:
                outputs.job_ended()
                raise
        outputs.job_ended()
        job.rows.join(LAST_ROWS_SECONDS)
        job.rows.check()
        classified, broken = outputs.counts(job.rows)
        rate = (classified + broken) / job.seconds
        click.echo(f"{classified} images, {broken} broken, {job.seconds:.1f} s, {rate:.1f} images/s", err=True)
        if settings.timeline:
            sampler.stop()
            sampler.write(settings.timeline)
        if ended and not settings.watch:
            outputs.check_complete(len(images) - classified - broken)
    return ended
