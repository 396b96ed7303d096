"""`kit embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import DataOption, JsonOption, ThreadsOption, print_json, use_threads


def embed(
    submission: Annotated[Path, typer.Argument(help="Folder that `kit submit` wrote; its blocks are still in .kit/.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder for client_ids.npy, embeddings.npy and manifest.json.")],
    cut: Annotated[
        str | None,
        typer.Option(
            help="Events before it count: an instant (2022-11-09T00:00:00), `input` or `end`; the submission's cut by default, "
            "no earlier one."
        ),
    ] = None,
    clients: Annotated[
        Path | None,
        typer.Option(help="Whose vectors: .npy, .txt or .parquet of ids; those of the submission by default."),
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vectors of other clients, or at a later cut, from the fitted blocks of a submission; nothing is trained.

    Weights, factors, tables and the ids that columns stand for are those of the fit, and so are scales, imputed values and
    components. What merely counts events (popularity, shares) is counted anew up to the cut. The clients and the cut of
    the submission give its vectors bit for bit. A client without events gets the vector of one without history.

    Example: kit embed submissions/stats --data data/small --cut end --out vectors/today

    Example: kit embed submissions/stats --data data/small --clients new.txt --out vectors/new
    """
    use_threads(threads)
    from kit.submission.embed import embed as make

    made = make(submission, data, out, cut, clients)
    if as_json:
        print_json({"out": str(out), **made})
        return
    state = f"made in {made['seconds']:.1f} s" if made["made_now"] else "there already, nothing to do"
    typer.echo(f"{out}: {made['clients']:,} clients × {made['width']} columns before {made['data']['cut']}, {state}")
    typer.echo(
        f"    {made['of_the_submission']:,} are clients of {submission}; {made['without_history']:,} have no event before the "
        "cut, and the vector of a client without history"
    )
