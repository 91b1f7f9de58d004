from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from visionserve.errors import ModelError, UsageError
from visionserve.files import write_atomically
from visionserve.models.bucket import Location, s3_client
from visionserve.models.publishing.build import Build, find_build
from visionserve.models.publishing.spec_file import SpecFile, read_spec
from visionserve.models.publishing.upload import Upload


@dataclass(frozen=True)
class Published:
    """A spec's copy and the addresses in it. `sent`: files that S3 did not hold yet; `size`: of those, in bytes."""

    copy: Path
    addresses: list[str]
    sent: int
    size: int


@dataclass(frozen=True)
class NotPublished:
    """A spec whose build in the folder `missing` was never made. `removed`: a copy that an earlier run wrote."""

    spec: Path
    missing: Path
    removed: Path | None


@dataclass(frozen=True)
class _Job:
    """What is to become of one spec. `text`: the copy's."""

    copy: Path
    text: str
    builds: list[tuple[Build, Location]]


def publish(url: str, specs: list[Path], suffix: str) -> Iterator[Published | NotPublished]:
    """Uploads the builds that Cortex API specs name, and writes beside each spec a copy that points to them.

    A build goes to <url>/<name>/<its digest>/<version>/, which no other build shares, and a copy is written when S3
    holds all that it points to. Where that turns out not to be so any more, the copy goes before the files are sent.
    Raises UsageError for a wrong address or spec, ModelError for a build that is damaged here, for S3's refusals,
    and where none of the builds is there; MissingError without boto3.
    """
    location = Location.parse(url)
    plan = [_planned(read_spec(path), suffix, location) for path in specs]
    for item in plan:
        if isinstance(item, NotPublished):
            if item.removed:
                item.removed.unlink()
            yield item
    jobs = [item for item in plan if isinstance(item, _Job)]
    if not jobs:
        raise ModelError("nothing was published: none of the builds is there")
    with s3_client(str(location), "written") as client:
        # Says more than the refusal of a first HEAD, which has no body.
        client.list_objects_v2(Bucket=location.bucket, Prefix=location.key(""), MaxKeys=1)
        for job in jobs:
            yield _published(job, [Upload(client, build, place) for build, place in job.builds])


def _planned(spec: SpecFile, suffix: str, location: Location) -> _Job | NotPublished:
    copy = _copy_path(spec, suffix)
    builds = []
    for model in spec.models:
        folder = spec.path.parent / model.location
        build = find_build(folder, model.for_inferentia)
        if build is None:
            return NotPublished(spec.path, folder, copy if copy.exists() else None)
        builds.append((build, location / build.name / build.digest))
    return _Job(copy, spec.with_locations([str(place) for _, place in builds]), builds)


def _copy_path(spec: SpecFile, suffix: str) -> Path:
    """Raises UsageError where the spec is a copy itself, or something else bears the copy's name."""
    published = [model.location for model in spec.models if model.location.startswith("s3://")]
    if published:
        raise UsageError(f"{spec.path} points to {published[0]} already: name a spec whose model_path is a folder")
    copy = spec.path.with_name(f"{spec.path.stem}{suffix}{spec.path.suffix}")
    if copy.exists() and not all(model.location.startswith("s3://") for model in read_spec(copy).models):
        raise UsageError(f"{copy} is no copy that this command wrote: choose another --suffix")
    return copy


def _published(job: _Job, uploads: list[Upload]) -> Published:
    todo = [(upload, paths) for upload in uploads if (paths := upload.missing())]
    if any(_points_to(job.copy, upload.location) for upload, _ in todo):
        job.copy.unlink()
    sizes = [(upload.build.folder / path).stat().st_size for upload, paths in todo for path in paths]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(job.copy.name, total=sum(sizes))
        for upload, paths in todo:
            upload.send(paths, lambda sent: progress.advance(task, sent))
    try:
        write_atomically(job.copy, job.text.encode())
    except OSError as error:
        raise ModelError(f"{job.copy} could not be written: {error.strerror or error}") from error
    return Published(job.copy, [str(upload.location) for upload in uploads], len(sizes), sum(sizes))


def _points_to(copy: Path, location: Location) -> bool:
    return copy.exists() and str(location) in [model.location for model in read_spec(copy).models]
