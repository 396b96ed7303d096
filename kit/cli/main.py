"""`kit`: the command line. Importing this module loads Typer and nothing heavy, so that `kit --help` is instant."""

from __future__ import annotations

import sys

import typer

from kit import __version__
from kit.cli import data, features
from kit.cli.board import board, compare
from kit.cli.score import score
from kit.cli.submit import submit, validate
from kit.errors import KitError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Raw event logs in, one vector per client out, six probes to score it.\n\n"
    "First hour: [bold]kit data synth data/small[/bold], [bold]kit submit pipelines/stats.toml --data data/small[/bold], "
    "[bold]kit score submissions/stats --data data/small[/bold].",
)
app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.command()(submit)
app.command()(validate)
app.command()(score)
app.command()(compare)
app.command()(board)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options of `kit` itself."""


def main() -> None:
    """Entry point: exit 0 fine, 1 findings, 2 user error (two plain lines on stderr, no traceback), 130 after Ctrl-C."""
    try:
        app()
    except KitError as error:
        typer.secho(f"error: {error.what}", fg="red", err=True)
        typer.echo(f"       {error.remedy}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; finished stages are kept, the same command goes on from there", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
