"""`kit init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if needed.")] = Path(),
) -> None:
    """Write a starter recipe.toml and a mapping.toml for one's own log, with comments. Existing files are left alone.

    Example: kit init myshop
    """
    from kit.errors import KitError
    from kit.store import PACKAGE, write_atomically

    names = ("recipe.toml", "mapping.toml")
    there = [str(folder / name) for name in names if (folder / name).exists()]
    if there:
        raise KitError(f"{' and '.join(there)} exist already.", "Choose another DIR, or move them away.")
    for name in names:
        text = (PACKAGE / "templates" / name).read_text(encoding="utf-8")
        write_atomically(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        typer.echo(f"wrote {folder / name}")
    typer.echo(
        f"next: `kit data convert {folder / 'mapping.toml'} SRC DIR` and `kit data split DIR` for your own log, "
        "or `kit data synth DIR` for a made-up shop;"
    )
    typer.echo(f"      then `kit submit {folder / 'recipe.toml'} --data DIR`")
