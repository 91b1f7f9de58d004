import click

from visionserve.models.cli.cpu import cpu


@click.group()
def export() -> None:
    """Makes a build of ResNet50 for one kind of hardware.

    \b
    Example:
      visionserve export cpu
    """


export.add_command(cpu)
