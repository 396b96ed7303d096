"""`--clients all`: who has an event before the cut can be asked for, and a submission is valid for whom it was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scored import validate
from toy import write_folder

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.scan import scan_events
from kit.data.split import split_folder
from kit.errors import KitError, Severity
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import read_manifest, submit

PLAN = parse(Recipe, {"name": "t", "blocks": {"counts": {"kind": "stats", "families": ["counts"]}}}, "test")
LATE = [501, 502, 503]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A split folder with three clients whose first event lies in the target windows; one visits a product nobody lists."""
    root = write_folder(tmp_path / "shop", rows=300)
    path = root / "add_to_cart.parquet"
    late = pl.DataFrame({"client_id": LATE, "timestamp": ["2022-07-12 10:00:00"] * 3, "sku": [1001, 1002, 999_999]})
    pl.concat([pl.read_parquet(path), late]).write_parquet(path)
    split_folder(root)
    return DataFolder(root)


def test_who_is_left_out_is_said_and_can_be_taken_in(
    folder: DataFolder, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    everybody = sorted({row[0] for kind in EventType for row in scan_events(folder.raw(kind), kind).collect().rows()})
    submit(PLAN, folder.root, tmp_path / "relevant", "end", store)
    said = capsys.readouterr().err
    assert f"3 of {len(everybody)} clients with an event before" in said and "`--clients all` takes them in" in said
    rows = sum(
        scan_events(folder.raw(kind), kind).collect().filter(~pl.col("client_id").is_in(LATE)).height
        for kind in (EventType.BUY, EventType.CART, EventType.REMOVE)
    )
    assert f"0.0% of {rows:,} purchases, cart adds and removals have no row in the catalogue" in said
    submit(PLAN, folder.root, tmp_path / "all", "end", store, clients="all")
    said = capsys.readouterr().err
    assert "get no vector" not in said and f"{1 / (rows + 3):.1%} of {rows + 3:,} purchases" in said
    assert sorted(np.load(tmp_path / "all" / "client_ids.npy")) == everybody
    assert read_manifest(tmp_path / "all")["data"]["clients"] == "all"
    assert read_manifest(tmp_path / "relevant")["data"]["clients"] == "relevant"
    for name in ("relevant", "all"):
        assert not [f for f in validate(tmp_path / name, folder) if f.severity is Severity.ERROR]
    assert not submit(PLAN, folder.root, tmp_path / "all", "end", store, clients="all")  # fresh
    (tmp_path / "all" / "manifest.json").unlink()
    assert any("3 ids are not relevant clients" in f.what for f in validate(tmp_path / "all", folder))


def test_lists_that_came_with_the_folder_and_the_local_cut_are_left_alone(
    folder: DataFolder, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KitError, match="Use it with --cut end"):
        submit(PLAN, folder.root, tmp_path / "s", "input", store, clients="all")
    np.save(folder.relevant_clients, folder.clients()[:50])
    folder.made_file.write_text("[]")
    split_folder(folder.root)
    submit(PLAN, folder.root, tmp_path / "s", "end", store)
    assert "get no vector" not in capsys.readouterr().err
    with pytest.raises(KitError, match="came with this folder: a submission holds exactly its clients"):
        submit(PLAN, folder.root, tmp_path / "t", "end", store, clients="all")
