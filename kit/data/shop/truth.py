"""What the shop knows about itself, kept beside the data: its catalogue, and its relevant clients as they stood at the cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from kit.challenge import TARGET_DAYS
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour, Floats, Ints
from kit.data.shop.clients import Clients
from kit.data.shop.nearness import Places, liking
from kit.data.shop.presets import CELLS, PRICE_BINS, STYLES, Preset, preset_called
from kit.data.shop.world import World, cell_of
from kit.errors import KitError

FOLDER: Final = "truth"
CATALOGUE: Final = (
    *("department", "popularity", "readiness", "successor", "complement"),
    *("category", "price", "style", "launch", "appeal", "sku_ids", "category_ids"),
)
"""Fields of World that a prediction of purchases needs."""


@dataclass(frozen=True)
class TrueCatalogue:
    """The part of a World that decides who buys what. Fields as in `World`."""

    department: Ints
    popularity: Floats
    readiness: Floats
    successor: Ints
    complement: Ints
    category: Ints
    price: Ints
    style: Ints
    launch: Ints
    appeal: Floats
    sku_ids: Ints
    category_ids: Ints
    places: Places
    behaviour: Behaviour

    @property
    def cell(self) -> Ints:
        """(skus,) cell of each product when it is no longer fresh."""
        return cell_of(self.price, self.style)


@dataclass(frozen=True)
class Truth:
    """Catalogue and clients, with the preset and seed they came from, and which of the family of shops it is (`vary`).

    `days` is the length of the target windows: the clients are as they stood two of them before the end.
    """

    preset: Preset
    seed: int
    catalogue: TrueCatalogue
    clients: Clients
    days: int = TARGET_DAYS
    vary: int | None = None


def kept(preset: Preset, clients_at_cut: Clients, shard: int) -> Clients:
    """The clients of one shard that are kept: an equal part of `preset.truth_clients`."""
    share = preset.truth_clients // preset.shards + (shard < preset.truth_clients % preset.shards)
    return clients_at_cut.take(np.arange(min(share, len(clients_at_cut))))


def save_truth(
    root: Path, world: World, seed: int, shards: list[Clients], days: int = TARGET_DAYS, vary: int | None = None
) -> None:
    """Write truth/: shop.json, catalogue.npz, clients.npz."""
    folder = root / FOLDER
    folder.mkdir()
    shop = {
        "preset": world.preset.name,
        "seed": seed,
        "cells": [PRICE_BINS, STYLES, CELLS],
        "days": days,
        "vary": vary,
        "size": asdict(world.preset),
        "behaviour": asdict(world.behaviour),
    }
    (folder / "shop.json").write_text(json.dumps(shop, indent=1) + "\n", encoding="utf-8")
    catalogue: dict[str, Any] = {name: getattr(world, name) for name in CATALOGUE}
    catalogue |= {"place": world.places.category, "style_place": world.places.style}
    np.savez_compressed(folder / "catalogue.npz", **catalogue)
    names = [f.name for f in fields(Clients)]
    columns: dict[str, Any] = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in names}
    np.savez_compressed(folder / "clients.npz", **columns)


def made_as(root: Path) -> tuple[str, int, int, int, int | None] | None:
    """Preset and seed of the shop in a folder, the windows' length it was made for, its relevant clients, and which of the family
    it is; None where there is none."""
    try:
        shop = json.loads((root / FOLDER / "shop.json").read_text(encoding="utf-8"))
        clients = int(shop["size"]["relevant"]) if "size" in shop else preset_called(shop["preset"]).relevant
        return str(shop["preset"]), int(shop["seed"]), int(shop.get("days", TARGET_DAYS)), clients, shop.get("vary")
    except (OSError, ValueError, KeyError):
        return None


def load_truth(root: Path) -> Truth:
    """The truth that `synth` left in a folder.

    Raises:
        KitError: there is none, or it was written by another version of the shop.
    """
    folder = root / FOLDER
    if not (folder / "clients.npz").exists():
        raise KitError(f"{str(root)!r} holds no truth.", "Only shops made by `kit data synth` have a ceiling.")
    shop = json.loads((folder / "shop.json").read_text(encoding="utf-8"))
    try:
        with np.load(folder / "catalogue.npz") as arrays:
            none = Places(np.zeros((len(arrays["department"]), 0), np.float32), np.zeros((STYLES, 0), np.float32))
            places = Places(arrays["place"], arrays["style_place"]) if "place" in arrays else none
            behaviour = Behaviour(**shop["behaviour"]) if "behaviour" in shop else BEHAVIOUR
            catalogue = TrueCatalogue(**{name: arrays[name] for name in CATALOGUE}, places=places, behaviour=behaviour)
        with np.load(folder / "clients.npz") as arrays:
            found = dict(arrays.items())
            clients = Clients(
                **_tastes(found, places) | {f.name: found[f.name] for f in fields(Clients) if f.name in found}
            )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise KitError(f"{folder} cannot be read ({error}).", "Make the shop again with this version.") from error
    if shop["cells"] != [PRICE_BINS, STYLES, CELLS]:
        raise KitError(f"{folder} was written by another version of the shop.", "Make the shop again.")
    size = Preset(**shop["size"]) if "size" in shop else preset_called(shop["preset"])
    return Truth(size, int(shop["seed"]), catalogue, clients, int(shop.get("days", TARGET_DAYS)), shop.get("vary"))


def _tastes(clients: dict[str, Any], places: Places) -> dict[str, Any]:
    """Fields that a truth written before there was a family of shops has not: all shops were alike then."""
    if "liking" in clients:
        return {}
    n = len(clients["style"])
    position = np.zeros((n, 0), np.float32)
    return {
        "position": position,
        "spread": np.full(n, BEHAVIOUR.price_spread),
        "liking": liking(places, position, clients["style"], BEHAVIOUR.style),
    }
