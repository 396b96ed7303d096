"""`kit data convert`: any shop's own log → the challenge layout, by a small mapping file. See `mapping.py` for its form."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kit.data.convert.mapping import mapping_path, read_mapping, ready_mappings
from kit.errors import KitError
from kit.progress import say, stage

__all__ = ["convert", "ready_mappings"]


def convert(source_or_mapping: str, src: Path, out: Path) -> None:
    """Write the shop in `src` to `out` as a challenge folder; then check and split it.

    All five event files are written, those that the shop has no events for with typed columns and no rows. Rows keep the
    order of the source and their duplicates. The folder appears under its name only when it is whole. `out/ids/` leads
    back to the shop's own ids, `out/mapping.toml` is the mapping that was used, `out/convert.json` says what became of
    every row of every file.

    Args:
        source_or_mapping: a ready mapping (see `ready_mappings`) or the path of a TOML file.
        src: folder with the shop's files, or the file itself where there is only one.
        out: the folder to make.

    Raises:
        KitError: unknown or ill-formed mapping; a file, column or value that is not as the mapping says; `out` exists.
    """
    path = mapping_path(source_or_mapping)
    mapping = read_mapping(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise KitError(f"{str(out)!r} exists already.", "Name a new folder, or delete that one first.")
    # Late, since sklearn and the rest are only needed from here on.
    from kit.data.convert.read import Sources
    from kit.data.convert.write import write_tables

    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with stage(f"converted {src.name} by {path.name}"):
            made = work / "out"
            made.mkdir()
            write_tables(mapping, Sources(mapping, src, work), made, work)
            shutil.copyfile(path, made / "mapping.toml")
            if out.exists():
                out.rmdir()
            made.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if (out / "ids").exists():
        say(f"  text ids were numbered; the shop's own: {out / 'ids'}")
    say(f"  next: kit data check {out} && kit data split {out}")
