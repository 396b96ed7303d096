"""The profile: a recipe's blocks for one cut, on one spine of clients, scaled, imputed, reduced, float16, ≤ 2048 columns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.blocks.base import BlockOutput, make_block
from kit.challenge import MAX_WIDTH
from kit.contract import ONE_CLIENT
from kit.errors import KitError
from kit.fingerprint import Code, code_of
from kit.history import History
from kit.limits.crowd import give_way
from kit.limits.watchdog import doing
from kit.profile.assemble import (
    CUT_SHARE,
    Cut,
    all_finite,
    cut_words,
    finish,
    joined,
    joint_pca,
    missing_rows,
    prepare_block,
)
from kit.profile.costs import block_costs
from kit.profile.learned import Learned, Prepared
from kit.profile.uses import Built
from kit.progress import say, track
from kit.recipe import BlockEntry, Recipe, build_order
from kit.store import Artefact, Plan, Store, digest


@dataclass(frozen=True)
class BlockRow:
    """One line of the profile's block table: columns [start, stop) of the matrix come from this block."""

    name: str
    kind: str
    start: int
    stop: int
    columns: tuple[str, ...]
    dropped: int
    missing_rows: int
    seconds: float
    fresh: bool
    fingerprint: str
    clipped: float = 0.0
    """Share of the values that the assembly's clip cut; `largest`: the largest magnitude before it."""
    largest: float = 0.0


@dataclass(frozen=True)
class Profile:
    """The assembled matrix.

    Attributes:
        clients: int64 (n,), the spine: one seeded permutation of the relevant clients.
        matrix: float16 (n, d), row i belongs to clients[i], finite.
        blocks: which columns come from which block; after a joint PCA there is one row, `pca`.
        fingerprint: of recipe, data and code together.
        artefacts: block name → key in the store of its output.
        learned: by the assembly, of the columns.
        training: block → what its training loop reported (losses per epoch), for the blocks that learned by one.
    """

    clients: NDArray[np.int64]
    matrix: NDArray[np.float16]
    blocks: tuple[BlockRow, ...]
    fingerprint: str
    artefacts: dict[str, str]
    training: dict[str, Any] = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)


def spine(history: History, seed: int) -> NDArray[np.int64]:
    """The submission's clients in one seeded permutation: the official probe reads rows in order, without shuffling."""
    return np.random.default_rng([seed, 0x5EED]).permutation(history.clients)


def profile_fingerprint(recipe: Recipe, history: str) -> str:
    """What decides the profile's bytes: recipe (not its name), the history's fingerprint, the code of blocks and assembly."""
    settings = recipe.model_dump(mode="json", exclude={"name", "description", "plugins"})
    settings["blocks"] = list(
        settings["blocks"].items()
    )  # their order is that of the columns, on which a probe's start rests
    return digest([settings, history, profile_code(recipe).digest])


def profile_code(recipe: Recipe) -> Code:
    """The code that decides a recipe's profile: of its blocks, and of what joins them.

    Raises:
        KitError: unknown block kind or setting.
    """
    code = code_of(build_profile)
    for name, entry in recipe.blocks.items():
        code |= make_block(name, entry, recipe.seed).code()
    return code


def build_profile(recipe: Recipe, history: History, store: Store) -> Profile:
    """Run the blocks (or find them fresh in the store), align, scale, impute, reduce.

    Raises:
        KitError: unknown block kind or setting; more than 2048 columns, with the widths that add up to it; a single client.
    """
    if len(history.clients) < 2:
        raise KitError("There is one relevant client, and no profile of one can tell it from others.", ONE_CLIENT)
    order = spine(history, recipe.seed)
    expected = block_costs(planned(recipe, history), len(history.clients), store)
    costs = dict(zip(recipe.blocks, expected, strict=True))
    names = build_order(recipe.blocks)
    made = {
        name: run_block(name, recipe.blocks[name], recipe.seed, history, store, recipe.blocks)
        for name in track(names, "profile", len(names), "blocks", [costs[name] for name in names])
    }
    blocks = [(name, entry, made[name]) for name, entry in recipe.blocks.items()]
    with doing("profile"):
        return _assemble(recipe, history, order, blocks)


def planned(recipe: Recipe, history: History) -> list[tuple[str, Plan]]:
    """Kind and plan of every block, in order."""
    return [
        (entry.kind, plan_block(name, entry, recipe.seed, history.fingerprint, history.artefact, recipe.blocks))
        for name, entry in recipe.blocks.items()
    ]


def _assemble(
    recipe: Recipe, history: History, order: NDArray[np.int64], blocks: list[tuple[str, BlockEntry, Artefact]]
) -> Profile:
    """The blocks' outputs as one matrix in the order of the spine."""
    position = np.searchsorted(history.clients, order)
    parts: list[NDArray[np.float32]] = []
    learned: dict[str, Prepared] = {}
    rows: list[BlockRow] = []
    start = 0
    for name, entry, artefact in blocks:
        if not entry.profile:
            continue
        values = np.load(artefact.folder / "values.npy", mmap_mode="r")
        if values.shape[0] != len(order):
            raise ValueError(f"block {name!r} has {values.shape[0]} rows for {len(order)} clients")
        columns = tuple(json.loads((artefact.folder / "columns.json").read_text(encoding="utf-8")))
        part = prepare_block(values, columns, entry, recipe.seed)
        if not all_finite(part.values):
            raise _not_finite(name, f"weight = {entry.weight:g}")
        missing = missing_rows(values)
        stop = start + part.values.shape[1]
        record = artefact.record()
        rows.append(
            BlockRow(
                name, entry.kind, start, stop, part.columns, len(part.dropped), missing,
                float(record["seconds"]), not artefact.made_now, artefact.fingerprint,
            )
        )  # fmt: skip
        parts.append(part.values)
        learned[name] = part.learned
        start = stop
    width = recipe.assembly.pca or start
    if width > MAX_WIDTH:
        widths = ", ".join(f"{row.name} {row.stop - row.start}" for row in rows)
        raise KitError(
            f"The profile would have {width} columns; the evaluator takes {MAX_WIDTH} ({widths}).",
            "Give a block `pca = N`, or `[assembly] pca = N`, or fewer families.",
        )
    parts, joint = joint_pca(parts, recipe.assembly, recipe.seed)
    matrix, cut = finish(parts, position, recipe.assembly)
    rows = rows if joint is None else [_joint_row(rows, matrix.shape[1])]
    table = tuple(_with_cut(row, cut, len(matrix)) for row in rows)
    for row in table:
        if row.clipped > CUT_SHARE:
            say(f"  {'. '.join(cut_words(row.name, row.clipped, row.largest, recipe.assembly.clip))}")
    keys = {name: artefact.key for name, _, artefact in blocks}
    return Profile(
        order,
        matrix,
        table,
        profile_fingerprint(recipe, history.fingerprint),
        keys,
        _training([(name, artefact) for name, _, artefact in blocks]),
        Learned(learned, joint),
    )


def apply_profile(
    recipe: Recipe, outputs: Iterable[tuple[str, BlockOutput]], learned: Learned, position: NDArray[np.int64]
) -> NDArray[np.float16]:
    """The matrix of other clients, or of a later cut, as the recipe's assembly treated those that it learned from.

    Args:
        recipe: scales, weights, norms.
        outputs: block name → its numbers, all of the same m clients.
        learned: by the assembly of the submission.
        position: int64 (n,), which of the m each row of the result belongs to.

    Returns:
        float16 (n, d), columns as in the submission; a column that a block does not give here is missing for everybody.
    """
    parts = []
    for name, output in outputs:
        entry = recipe.blocks[name]
        part = prepare_block(output.values, output.columns, entry, recipe.seed, learned.blocks[name])
        if not all_finite(part.values):
            raise _not_finite(name, f"weight = {entry.weight:g}")
        parts.append(part.values)
    if learned.joint is not None:
        parts = [learned.joint.apply(joined(parts))]
    matrix, cut = finish(parts, position, recipe.assembly)
    share = int(cut.values.sum()) / max(matrix.size, 1)
    if share > CUT_SHARE:
        say(f"  {share:.1%} of the values lay beyond ±{recipe.assembly.clip:g} and were cut")
    return matrix


def _with_cut(row: BlockRow, cut: Cut, clients: int) -> BlockRow:
    """The row, with what the clip did to its columns."""
    own = slice(row.start, row.stop)
    values = clients * (row.stop - row.start)
    share, largest = int(cut.values[own].sum()) / max(values, 1), float(cut.largest[own].max(initial=0))
    if not np.isfinite(largest):
        raise _not_finite(row.name, "[assembly] pca and row_norm")
    return replace(row, clipped=round(share, 6), largest=largest)


def _not_finite(block: str, settings: str) -> KitError:
    """A clip would hide infinities: every client at the same ±clip."""
    return KitError(
        f"Block {block} has values that are NaN or infinite once it is scaled ({settings}).",
        "Give it a smaller weight or another scale, or look at what the block itself makes. No submission was changed.",
    )


def plan_block(
    name: str, entry: BlockEntry, seed: int, history: str, events: str, blocks: Mapping[str, BlockEntry] | None = None
) -> Plan:
    """What a block's output is made from.

    Args:
        name, entry, seed: of the recipe.
        history: a History's fingerprint.
        events: key of its tables; "" if there is none.
        blocks: all entries of the recipe, for one that uses others: their keys become parents.

    Raises:
        KitError: as `make_block`; the kind learns from other entries, and this one names none.
    """
    unit = make_block(name, entry, seed)
    if unit.takes and not entry.uses:
        what = f"[blocks.{name}]: a block of kind {entry.kind!r} learns from other entries."
        raise KitError(what, 'Name them: uses = ["stats"].')
    code = unit.code()
    inputs = {
        "kind": entry.kind,
        "settings": unit.settings.model_dump(mode="json"),
        "seed": seed,
        "history": history,
        "code": code.digest,
    }
    used = {other: plan_block(other, (blocks or {})[other], seed, history, events, blocks) for other in entry.uses}
    if used:
        inputs["uses"] = {other: plan.fingerprint for other, plan in used.items()}
    parents = [key for key in (events, *(plan.key for plan in used.values())) if key]
    return Plan(f"block-{entry.kind}", inputs, code.files, parents=parents, notes={"block": name})


def _training(blocks: list[tuple[str, Artefact]]) -> dict[str, Any]:
    """training.json of the blocks that wrote one; entries that share one run (`like`) are told once."""
    found: dict[str, Any] = {}
    seen: set[Path] = set()
    for name, artefact in blocks:
        path = artefact.folder / "training.json"
        if path.exists() and path not in seen:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            seen.add(path)
    return found


def run_block(
    name: str,
    entry: BlockEntry,
    seed: int,
    history: History,
    store: Store,
    blocks: Mapping[str, BlockEntry] | None = None,
) -> Artefact:
    """One block's output for history.clients (sorted): values.npy float32 (n, d), columns.json, and what it saved.

    `blocks` are all entries of the recipe, for one that uses others: those are built first, also at the rewound cuts that the
    block asks about.
    """
    unit, known = make_block(name, entry, seed), blocks or {}
    plan = plan_block(name, entry, seed, history.fingerprint, history.artefact, blocks)
    unit.scratch = store.scratch(plan)
    unit.others = Built(lambda other, past: run_block(other, known[other], seed, past, store, blocks))

    def build(folder: Path) -> None:
        began = time.perf_counter()
        with give_way():
            output = unit.fit(history).transform(history, history.clients)
        if output.values.shape[0] != len(history.clients):
            raise ValueError(
                f"block {name!r} returned {output.values.shape[0]} rows for {len(history.clients)} clients"
            )
        np.save(folder / "values.npy", output.values)
        (folder / "columns.json").write_text(json.dumps(output.columns), encoding="utf-8")
        unit.save(folder)
        say(f"  block {name}: {output.values.shape[1]} columns in {time.perf_counter() - began:.1f} s")

    with doing(f"block {name}"):
        return store.make(plan, build)


def _joint_row(rows: list[BlockRow], width: int) -> BlockRow:
    """After a joint PCA columns belong to all blocks together."""
    columns = tuple(f"pca_{i}" for i in range(width))
    seconds = sum(row.seconds for row in rows)
    fingerprint = digest([row.fingerprint for row in rows])
    dropped = sum(row.dropped for row in rows)
    fresh = all(row.fresh for row in rows)
    return BlockRow(
        "pca", "+".join(row.kind for row in rows), 0, width, columns, dropped, 0, seconds, fresh, fingerprint
    )
