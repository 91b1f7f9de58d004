from typing import Any

import click

from visionserve.errors import VisionserveError
from visionserve.redaction import redacted


class SentenceGroup(click.Group):
    """A group of commands whose VisionserveErrors end in one sentence on stderr and their exit code, not in a trace.

    Ctrl-C ends in exit code 130, as a shell has it.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VisionserveError as error:
            click.echo(f"Error: {redacted(str(error))}", err=True)
            raise click.exceptions.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
