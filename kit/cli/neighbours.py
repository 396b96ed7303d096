"""`kit neighbours`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli.common import JsonOption, ThreadsOption, print_json, use_threads

if TYPE_CHECKING:
    from kit.neighbours import Neighbour


def neighbours(
    submission: Annotated[Path, typer.Argument(help="Folder with client_ids.npy and embeddings.npy.")],
    clients: Annotated[list[int], typer.Argument(metavar="CLIENT…", help="Ids of clients.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbours.")] = 10,
    features: Annotated[int, typer.Option(min=0, help="How many common features to name.")] = 5,
    index: Annotated[
        bool, typer.Option("--index", help="Search an index (needs faiss-cpu) and report its recall; for many clients.")
    ] = False,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the clients most similar to some clients by the cosine of their profiles, and why: blocks and features in common.

    The blocks' parts add up to the cosine. A feature's part is the product of both clients' values over their lengths.

    Example: kit neighbours submissions/stats 1042 -k 5
    """
    use_threads(threads)
    from kit.neighbours import Index, open_profiles, recall
    from kit.neighbours import neighbours as nearest

    profiles = open_profiles(submission)
    profiles.rows_of(clients)  # an unknown client is said before an index is built
    approximate = Index(profiles, submission) if index else None
    found = nearest(profiles, clients, k, features=features, index=approximate)
    share = recall(profiles, approximate, k) if approximate else None
    if as_json:
        rows = {str(client): [other.as_json() for other in others] for client, others in found.items()}
        print_json({"submission": str(submission), "k": k, "recall": share, "neighbours": rows})
        return
    for client, others in found.items():
        typer.secho(f"client {client}", bold=True)
        for other in others:
            _print(other)
    if share is not None:
        typer.echo(f"the index finds {share:.1%} of the true {k} nearest (exact search for up to 200 clients)")


def _print(other: Neighbour) -> None:
    blocks = sorted(other.blocks.items(), key=lambda part: -part[1])
    parts = ", ".join(f"{name} {value:+.3f}" for name, value in blocks)
    typer.echo(f"  {other.client:>12}  cosine {other.cosine:.4f} = {parts}")
    for shared in other.features:
        typer.echo(f"                  {shared.part:+.3f}  {shared.name} ({shared.own:.3g} and {shared.other:.3g})")
