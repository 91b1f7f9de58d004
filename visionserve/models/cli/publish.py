from pathlib import Path

import click

SPECS = ("cortex_cpu.yaml", "cortex_gpu.yaml", "cortex_accelerator.yaml")


@click.command()
@click.argument("url", metavar="S3://BUCKET/PREFIX")
@click.argument("specs", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--suffix",
    default="_s3",
    show_default=True,
    metavar="TEXT",
    help="What the name of a copy has more than the name of its spec.",
)
def publish(url: str, specs: tuple[Path, ...], suffix: str) -> None:
    """Uploads the builds that API specs name to S3, and writes copies of the specs that point to them.

    SPECS are cortex_cpu.yaml, cortex_gpu.yaml and cortex_accelerator.yaml unless others are named. The copy of
    cortex_cpu.yaml is cortex_cpu_s3.yaml beside it, for Cortex's own `cortex deploy` on a cluster and for this one's.

    Only what S3 does not hold yet is sent, and a copy is written when S3 holds, verified, all that it points to.
    A changed build gets another address, so that the one being served stays as it is. A spec whose build is not there
    gets no copy, and loses that of an earlier run; the exit code is 1 if that is so for all of them.

    Credentials, region and endpoint are boto3's: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws ...

    \b
    Examples:
      visionserve publish s3://bucket/models
      visionserve publish s3://bucket/models cortex_cpu.yaml --suffix _staging
    """
    from visionserve.errors import UsageError, export_command
    from visionserve.models.publishing.publish import NotPublished
    from visionserve.models.publishing.publish import publish as publish_specs

    if not suffix or "/" in suffix:
        raise UsageError(f"--suffix {suffix!r} makes no name for a copy: give something like _s3")
    for outcome in publish_specs(url, list(specs) or [Path(name) for name in SPECS], suffix):
        if isinstance(outcome, NotPublished):
            removed = f"; removed {outcome.removed}" if outcome.removed else ""
            click.echo(
                f"{outcome.spec}: not published, as {outcome.missing} is not there: "
                f"run {export_command(outcome.missing)}{removed}"
            )
            continue
        sent = f"sent {outcome.size / 1e6:.1f} MB" if outcome.sent else "all of it was there already"
        click.echo(f"{outcome.copy}: {', '.join(outcome.addresses)} ({sent})")
        click.echo(f"  deploy it with cortex deploy {outcome.copy}")
