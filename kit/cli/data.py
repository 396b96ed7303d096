"""`kit data`: make, check, split and convert a data folder. Thin: every command calls one function of kit.data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kit.challenge import TARGET_DAYS

app = typer.Typer(
    no_args_is_help=True,
    help="Make, check, split and convert data folders (the challenge layout: five event files and product properties).",
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The data folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout instead of a table.")]


@app.command()
def synth(
    root: Folder,
    preset: Annotated[
        str, typer.Option(help="tiny ≈ 1 k, small ≈ 8 k, medium ≈ 50 k, city = 128 k relevant clients, official = 1 M.")
    ] = "small",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
    days: Annotated[int, typer.Option("--days", help="Length of each of the two target windows.")] = TARGET_DAYS,
    clients: Annotated[
        int | None,
        typer.Option("--clients", help="Another number of relevant clients; the catalogue and all else follow."),
    ] = None,
    vary: Annotated[
        int | None,
        typer.Option(
            "--vary",
            help="A member of the family of shops, 1, 2, 3 …: behaviour from wide ranges, every third's tastes latent.",
        ),
    ] = None,
) -> None:
    """Make a synthetic shop, split it, and write the ceiling that its own truth allows.

    Example: kit data synth data/small --preset small --seed 1

    Example: kit data synth data/member-3 --vary 3 --clients 32000
    """
    from kit.data.layout import DataFolder
    from kit.data.shop import is_unfinished
    from kit.data.shop import synth as make_shop
    from kit.data.split import split_folder
    from kit.scoring.ceiling import write_ceiling
    from kit.tasks.labels import list_rules

    # if it is, a run was stopped after this step: the same command goes on
    if not is_unfinished(root, preset, seed, days, clients, vary):
        make_shop(root, preset, seed, days, clients, vary)
    if not DataFolder(root).split_file.exists():
        split_folder(root, days=days, lists=list_rules())
    write_ceiling(root)


@app.command()
def check(root: Folder, as_json: AsJson = False) -> None:
    """Say everything that is wrong with a folder at once, each finding with its remedy. Exit 1 if there are errors.

    Example: kit data check data/small --json
    """
    from kit.data.check import check_folder
    from kit.errors import Severity

    findings = check_folder(root)
    ok = all(finding.severity is not Severity.ERROR for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "findings": [finding.as_json() for finding in findings]}, indent=1))
    else:
        for finding in findings:
            colour = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}[finding.severity]
            typer.secho(f"{finding.severity.value:8}", fg=colour, nl=False)
            typer.echo(f"{finding.where}: {finding.what}\n        → {finding.remedy}")
        counts = [f"{sum(f.severity is each for f in findings)} {each.value}" for each in Severity]
        typer.echo(f"{root}: {'sound' if ok else 'has errors'} ({', '.join(counts)})")
    raise typer.Exit(0 if ok else 1)


@app.command()
def split(
    root: Folder,
    official_active_clients: Annotated[
        bool,
        typer.Option(
            "--official-active-clients",
            help="Keep the folder's own active_clients.npy. It holds buyers of all time, so local churn reads far too high.",
        ),
    ] = False,
    days: Annotated[
        int | None,
        typer.Option(
            "--days",
            help=f"Length of each of the two target windows; by default the challenge's {TARGET_DAYS}. Labels, rewinds, "
            "features, probes and reports follow it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cut the last 28 days off as two target windows of 14 days, exactly as the organisers' script does, or of --days.

    Makes the target lists of all tasks, also of your own, where the folder brings none.

    Example: kit data split data/online-retail

    Example: kit data split data/online-retail --days 7
    """
    from kit.data.layout import DataFolder
    from kit.data.split import split_folder
    from kit.scoring.results import ceiling_note
    from kit.tasks.labels import list_rules

    result = split_folder(root, official_active_clients=official_active_clients, days=days, lists=list_rules())
    if as_json:
        moments = {key: str(value) for key, value in asdict(result).items()}
        typer.echo(json.dumps({"data": str(root), "days": result.days, **moments}, indent=1))
        return
    typer.echo(f"input          t < {result.train_start}")
    typer.echo(f"train target   [{result.train_start}, {result.validation_start})")
    typer.echo(f"validation     [{result.validation_start}, {result.end}]")
    if (note := ceiling_note(DataFolder(root))) is not None:
        typer.echo(f"note: {note}")


@app.command()
def convert(
    mapping: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE_OR_MAPPING",
            help="Ready (online-retail, retailrocket, rees46, otto, hm, ta-feng, ga4), or the path of your own mapping.toml.",
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with the shop's own files.")],
    root: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder to make; must not exist yet.")],
) -> None:
    """Turn a shop's own log into the challenge layout by a mapping file; then `kit data check` and `kit data split`.

    Example: kit data convert online-retail downloads/uci data/online-retail
    """
    from kit.data.convert import convert as convert_log

    convert_log(mapping, source, root)


@app.command()
def fetch(
    root: Folder,
    which: Annotated[
        str,
        typer.Option(help="challenge: events and the two official target windows (1.4 GB); raw: all events (2.1 GB)."),
    ] = "challenge",
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A mirror: the address of the folder that holds the archive.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="I accept the licence; do not ask.")] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Accept another size or checksum than the recorded ones.")
    ] = False,
    keep_archive: Annotated[bool, typer.Option("--keep-archive", help="Keep the archive in DIR/.fetch.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download one of the two public archives of the challenge (CC BY-NC 4.0), verify, unpack and check it.

    A dropped connection is continued; after an interruption the same command goes on from what has arrived.

    Example: kit data fetch data/official --which challenge --yes
    """
    from kit.data import fetch as fetching
    from kit.errors import KitError, nearest

    if which not in fetching.ARCHIVES:
        raise KitError(f"There is no archive {which!r};", nearest(which, fetching.ARCHIVES))
    archive = fetching.ARCHIVES[which]
    typer.echo(f"{archive.name}: {archive.holds}.\n\n{fetching.LICENCE}", err=True)
    if not yes:
        import sys

        if not sys.stdin.isatty():
            raise KitError("The licence was not accepted.", "Read it and add --yes.")
        typer.confirm("Do you accept this licence?", abort=True, err=True)
    fetched = fetching.fetch(
        root, archive, base_url or fetching.BASE_URL, unverified=unverified, keep_archive=keep_archive
    )
    if not fetched:
        typer.echo(f"{root} holds {archive.name} already", err=True)
    check(root, as_json)


@app.command()
def stats(root: Folder, as_json: AsJson = False) -> None:
    """The folder's statistics beside the published ones of the challenge.

    Example: kit data stats data/small
    """
    from kit.data.stats import folder_stats

    rows = folder_stats(root)
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=1))
        return
    from rich.table import Table

    from kit.cli.console import Console

    table = Table("metric", "here", "published", title=str(root))
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
        table.add_row(f"  {row.metric}", shown(row.here), shown(row.published))
    Console(least=60).print(table)


@app.command()
def codes(root: Folder, as_json: AsJson = False) -> None:
    """Measure what the name and query codes are: product- or residual-quantised, and whether both share a quantiser.

    Example: kit data codes data/small
    """
    from kit.data.codes import describe_codes

    report = describe_codes(root)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1))
        return
    bits = ", ".join(f"{value:.2f}" for value in report.information or ())
    typer.echo(f"quantiser      {report.kind} ({report.products:,} products)")
    typer.echo(f"bits per code  {bits or '–'} (mutual information with the category, less chance)")
    if report.agreeing is None or report.interval is None:
        typer.echo(f"queries        too few searches followed by a cart add ({report.pairs}) to say")
        return
    low, high = report.interval
    verdict = "share" if report.shared else "do not share"
    typer.echo(
        f"queries        {verdict} the names' quantiser: {report.agreeing:.2f} of 16 positions agree, "
        f"{report.by_chance:.2f} by chance, difference in [{low:.2f}, {high:.2f}] over {report.pairs:,} pairs"
    )


def shown(value: float | None) -> str:
    """A number as a table cell: four significant digits, thousands separated; a dash for nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
