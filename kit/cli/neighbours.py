"""`kit neighbours`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli.common import JsonOption, ThreadsOption, print_json, use_threads

if TYPE_CHECKING:
    from kit.neighbours import Neighbour
    from kit.submission.submission import Submission


def neighbours(
    submission: Annotated[Path, typer.Argument(help="Folder with client_ids.npy and embeddings.npy.")],
    clients: Annotated[
        list[str], typer.Argument(metavar="CLIENT…", help="Ids of clients: the shop's own, where they were text.")
    ],
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
    from kit.data.own_ids import clients_called, own_names
    from kit.neighbours import Index, open_profiles, recall
    from kit.neighbours import neighbours as nearest
    from kit.submission.submission import Submission

    opened = Submission(submission)
    profiles = open_profiles(opened)
    data = _data_of(opened)
    silent = "no history: its vector is all zeros; no neighbours"
    wanted = clients_called(clients, data)
    rows_of_wanted = profiles.rows_of(wanted)  # an unknown client is said before an index is built
    empty = dict(zip(wanted, profiles.empty(rows_of_wanted).tolist(), strict=True))
    approximate = Index(profiles, submission) if index else None
    found = nearest(profiles, wanted, k, features=features, index=approximate)
    share = recall(profiles, approximate, k) if approximate else None
    own = own_names([*found, *(other.client for others in found.values() for other in others)], data)
    if as_json:
        rows = {
            own.get(client, str(client)): [
                other.as_json() | ({"own": own[other.client]} if own else {}) for other in others
            ]
            for client, others in found.items()
        }
        none = [own.get(client, str(client)) for client, others in found.items() if empty[client]]
        print_json(
            {"submission": str(submission), "k": k, "recall": share, "neighbours": rows, "without_history": none}
        )
        return
    for client, others in found.items():
        typer.secho(f"client {own.get(client, client)}", bold=True)
        if empty[client]:
            typer.echo(f"  {silent}")
        for other in others:
            _print(other, own.get(other.client, str(other.client)))
    if share is not None:
        typer.echo(f"the index finds {share:.1%} of the true {k} nearest (exact search for up to 200 clients)")


def _data_of(submission: Submission) -> Path | None:
    """The data folder that a submission was made from; None where nothing says so.

    Raises:
        KitError: clients or their own ids are others there now: names would be of other clients.
    """
    from kit.data.layout import DataFolder
    from kit.data.origin import require_origin
    from kit.data.own_ids import id_file
    from kit.errors import KitError

    try:
        made = submission.manifest["data"]
        folder = DataFolder(Path(str(made["folder"])))
    except (KitError, KeyError, TypeError):
        return None
    if folder.root.is_dir():
        files = (folder.relevant_clients, id_file(folder.root))
        require_origin(
            submission.folder, made, folder, names=[path.relative_to(folder.root).as_posix() for path in files]
        )
    return folder.root


def _print(other: Neighbour, name: str) -> None:
    blocks = sorted(other.blocks.items(), key=lambda part: -part[1])
    parts = ", ".join(f"{name} {value:+.3f}" for name, value in blocks)
    typer.echo(f"  {name:>12}  cosine {other.cosine:.4f} = {parts}")
    for shared in other.features:
        typer.echo(f"                  {shared.part:+.3f}  {shared.name} ({shared.own:.3g} and {shared.other:.3g})")
