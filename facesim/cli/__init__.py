"""The command line. It imports little, so that `--help` is instant: what a command needs is imported when it runs."""

from __future__ import annotations

import click

from facesim import __version__
from facesim.cli import about, aws, data, image, prices, recognition, study
from facesim.errors import FacesimError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        return facesim.main(arguments, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FacesimError as error:
        click.secho(f"facesim: {error}", fg="red", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.secho("facesim: interrupted", fg="yellow", err=True)
        return study.INTERRUPTED


class _CompareByDefault(click.Group):
    """A group whose options alone mean the command `compare`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["compare", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_CompareByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="facesim")
def facesim() -> None:
    """Train the same face recognition on one machine and on a cluster, and compare both honestly.

    Without a command: `compare`, the study of one process against a parameter-server cluster. `facesim compare --help`
    shows its options.
    """


for command in (
    study.compare,
    study.run,
    study.report,
    study.baselines,
    recognition.evaluate,
    recognition.embed,
    recognition.verify,
    recognition.identify,
    recognition.export,
    data.data,
    prices.prices,
    about.models,
    about.recipes,
    about.doctor,
    *aws.COMMANDS,
    image.image,
):
    facesim.add_command(command)
