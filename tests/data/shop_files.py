"""A folder of source files and the Sources over it, for tests of the reader."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping as Dict
from pathlib import Path

from kit.data.convert.mapping import Mapping
from kit.data.convert.read import Sources

HEADER = "user,product,note,when\n"
COLUMNS = ("user", "product", "when")


def write(folder: Path, files: Dict[str, str | bytes]) -> Path:
    """Writes the files; text in UTF-8, line ends as they stand."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, held in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held if isinstance(held, bytes) else held.encode())
    return folder


def sources(
    tmp_path: Path, files: Dict[str, str | bytes], settings: str = "", path: str = "*.csv*", work: str = "work"
) -> Sources:
    """Sources of a mapping with one source file pattern `log` and the columns user, product, when."""
    text = f"""
    [files.log]
    path = "{path}"
    {settings}
    [log]
    client = "user"
    item = "product"
    time = {{ column = "when" }}
    [tables.product_buy]
    """
    folder = write(tmp_path / "src", files)
    (tmp_path / work).mkdir()
    return Sources(Mapping.model_validate(tomllib.loads(text)), folder, tmp_path / work)


def rows(opened: Sources) -> list[tuple[object, ...]]:
    """The rows without their provenance."""
    return opened["log"].select(COLUMNS).collect().rows()


def lines(*objects: object) -> str:
    """JSON lines."""
    return "".join(json.dumps(each) + "\n" for each in objects)
