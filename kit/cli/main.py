"""`kit`: the command line. Importing this module loads Typer and nothing heavy, so that `kit --help` is instant."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kit import __version__
from kit.cli import bench, data, features, recipe, tune
from kit.cli.ablate import ablate
from kit.cli.artefacts import clean, explain, status
from kit.cli.board import board, compare
from kit.cli.calibrate import calibrate
from kit.cli.doctor import doctor
from kit.cli.embed import embed
from kit.cli.init import init
from kit.cli.interrupt import Interruptible, listen
from kit.cli.neighbours import neighbours
from kit.cli.net import caught
from kit.cli.report import report
from kit.cli.score import score
from kit.cli.submit import submit, validate
from kit.cli.techniques import techniques

app = typer.Typer(
    cls=Interruptible,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Raw event logs in, one vector per client out, six probes to score it.\n\n"
    "First hour: [bold]kit data synth data/small[/bold], [bold]kit submit pipelines/stats.toml --data data/small[/bold], "
    "[bold]kit score submissions/stats --data data/small[/bold].",
)
app.add_typer(data.app, name="data")
app.add_typer(features.app, name="features")
app.add_typer(recipe.app, name="recipe")
app.command()(init)
app.add_typer(tune.app, name="tune")
app.command()(submit)
app.command()(validate)
app.command()(embed)
app.command()(score)
app.command()(compare)
app.command()(calibrate)
app.command()(ablate)
app.add_typer(bench.app, name="bench")
app.command()(techniques)
app.command()(board)
app.command()(neighbours)
app.command()(report)
app.command()(status)
app.command()(explain)
app.command()(clean)
app.command()(doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="Log runs also to tensorboard, mlflow or wandb; repeat for several. JSON lines go to .kit/runs/ always.",
        ),
    ] = None,
) -> None:
    """Options of `kit` itself."""
    if track:
        import os

        from kit.tracking import VARIABLE, chosen_sinks

        os.environ[VARIABLE] = ",".join(track)
        chosen_sinks()  # a misspelt one is said before hours of work


def main() -> None:
    """Entry point: exit 0 fine, 1 findings, 2 an error (two plain lines on stderr, no traceback), 130 after Ctrl-C, 141 where
    whoever read the output is gone."""
    listen()
    sys.exit(caught(app))


if __name__ == "__main__":
    main()
