"""The stages whose costs are measured, in the order in which one needs another. Each runs alone in a fresh process.

Only what is inside `job.clock()` counts: imports, opening what earlier stages made and clearing old results do not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from curves import floor, probing
from curves.child import Job

if TYPE_CHECKING:
    from kit.history import History
    from kit.recipe import Recipe
    from kit.store import Store

REPOSITORY: Final = Path(__file__).parents[3]
STATS: Final = REPOSITORY / "pipelines" / "stats.toml"
BASELINE: Final = REPOSITORY / "pipelines" / "baseline.toml"
MIB: Final = 2**20


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        title: what it is called in the report. `what`: one sentence on what is timed.
        run: does it.
        needs: stages whose output it reads.
        imports: modules loaded before the clock starts.
        progress: the kit's own progress to extrapolate from if the stage is cut; "" if its steps are not alike.
    """

    title: str
    what: str
    run: Callable[[Job], None]
    needs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    progress: str = ""


def synth(job: Job) -> None:
    """Write the shop."""
    from curves.shops import make

    shutil.rmtree(job.order.data, ignore_errors=True)
    with job.clock():
        preset = make(job.order.data, job.order.size, job.order.seed)
    job.details |= {"clients": preset.clients, "products": preset.skus, "mib": folder_mib(job.order.data)}


def split(job: Job) -> None:
    """Split the shop; one that was given stays as it is and is split in a shadow of links."""
    from kit.data.layout import DataFolder
    from kit.data.split import split_folder

    root, shadow = job.order.data, job.order.place / "shadow"
    if root != job.order.place / "shop":
        whole = DataFolder(root)
        shutil.rmtree(shadow, ignore_errors=True)
        (shadow / "input").mkdir(parents=True)
        for path in root.glob("*.parquet"):
            (shadow / path.name).symlink_to(path.resolve())
        shutil.copyfile(whole.relevant_clients, shadow / "input" / whole.relevant_clients.name)
        root = shadow
    with job.clock():
        split_folder(root)
    job.details["mib"] = folder_mib(root / "input")
    shutil.rmtree(shadow, ignore_errors=True)


def events(job: Job) -> None:
    """Prepare the History's tables."""
    import polars as pl

    from kit.challenge import EventType
    from kit.data.layout import DataFolder

    shutil.rmtree(store_of(job).root, ignore_errors=True)
    with job.clock():
        history = open_history(job)
    rows = {kind.value: history.events(kind).select(pl.len()).collect().item() for kind in EventType}
    files = {kind: DataFolder(job.order.data).input(kind) for kind in EventType}
    everyone = {kind.value: pl.scan_parquet(path).select(pl.len()).collect().item() for kind, path in files.items()}
    job.details |= {"rows": rows, "rows of everyone": everyone, "mib": folder_mib(store_of(job).root / "events")}


def features(job: Job) -> None:
    """The hand-made families of stats.toml, as its blocks build and store them."""
    from curves.ledger import Ledger
    from kit.blocks.stats import stats_plans
    from kit.features.build import CHUNK
    from kit.profile.build import run_block

    history, recipe, store = open_history(job), hand_made(), store_of(job)
    shutil.rmtree(store.root / "block-stats", ignore_errors=True)
    families = sum(len(names) for names, _ in stats_plans(recipe).values())
    ledger = Ledger(job, families * -(-job.order.size // CHUNK))
    with job.clock(), ledger.reading():
        made = [run_block(name, entry, recipe.seed, history, store) for name, entry in recipe.blocks.items()]
    ledger.report()
    job.details["mib"] = sum(folder_mib(artefact.folder) for artefact in made)


def baseline(job: Job) -> None:
    """The organisers' features by our block, for comparison with their code."""
    from kit.profile.build import run_block
    from kit.recipe import read_recipe

    history, recipe, store = open_history(job), read_recipe(BASELINE), store_of(job)
    shutil.rmtree(store.root / "block-organisers", ignore_errors=True)
    with job.clock():
        made = [run_block(name, entry, recipe.seed, history, store) for name, entry in recipe.blocks.items()]
    job.details["mib"] = sum(folder_mib(artefact.folder) for artefact in made)


def factorise(job: Job) -> None:
    """The factorisations of stats.toml: fit, and a vector per client."""
    from kit.profile.build import run_block
    from kit.recipe import read_recipe

    history, recipe, store = open_history(job), read_recipe(STATS), store_of(job)
    shutil.rmtree(store.root / "block-als", ignore_errors=True)
    entries = {name: entry for name, entry in recipe.blocks.items() if entry.kind == "als"}
    seconds = {}
    with job.clock():
        for done, (name, entry) in enumerate(entries.items()):
            artefact = run_block(name, entry, recipe.seed, history, store)
            seconds[name] = float(artefact.record()["seconds"])
            job.details["parts"] = seconds
            job.mark(done + 1, len(entries), "blocks")


def tokens(job: Job) -> None:
    """All events as flat arrays, written so that they can be mapped."""
    from kit.tokens import TokenSettings, tokenise

    history, out = open_history(job), store_of(job).root / "tokens"
    shutil.rmtree(out, ignore_errors=True)
    with job.clock():
        made = tokenise(history, TokenSettings())
    job.details |= {"tokens": len(made), "mib": folder_mib(out)}


def graph(job: Job) -> None:
    """Vocabulary and weighted edges of every relation; those of clients written so that they can be mapped."""
    from kit.blocks.edges import EdgeSettings, build_graph, build_vocabulary

    history, settings, out = open_history(job), EdgeSettings(), store_of(job).root / "edges"
    shutil.rmtree(out, ignore_errors=True)
    with job.clock():
        made = build_graph(history, build_vocabulary(history, settings), settings)
    edges = {name: len(edges) for name, edges in made.edges.items()}
    job.details |= {"nodes": dict(made.sizes), "edges": edges, "mib": folder_mib(out)}


def profile(job: Job) -> None:
    """Scale, impute, permute, write: from the stored feature blocks to the submission's files."""
    from kit.data.layout import DataFolder
    from kit.errors import KitError
    from kit.profile import build_profile
    from kit.profile.build import plan_block
    from kit.progress import now
    from kit.store import is_whole
    from kit.submission import write_submission
    from kit.submission.plan import SubmissionPlan

    history, recipe, store = open_history(job), hand_made(), store_of(job)
    for name, entry in recipe.blocks.items():
        plan = plan_block(name, entry, recipe.seed, history.fingerprint, history.artefact)
        if not is_whole(store.folder(plan)):  # else their building would be timed here
            raise KitError(
                f"The stored block {name!r} is of other code or data.", "Measure the features again (--force)."
            )
    out = submission_of(job)
    shutil.rmtree(out, ignore_errors=True)
    with job.clock():
        made = build_profile(recipe, history, store)
        write_submission(SubmissionPlan(recipe, DataFolder(job.order.data), out, store=store), made, history, now())
    job.details |= {"width": int(made.matrix.shape[1]), "mib": folder_mib(out)}


def validate(job: Job) -> None:
    """Everything `kit validate` looks at."""
    from kit.data.layout import DataFolder
    from kit.submission import validate as findings_of

    with job.clock():
        found = findings_of(submission_of(job), DataFolder(job.order.data))
    job.details["findings"] = [str(finding.what) for finding in found]


def hand_made() -> Recipe:
    """stats.toml without its factorisations."""
    from kit.recipe import read_recipe

    recipe = read_recipe(STATS)
    return recipe.model_copy(update={"blocks": {n: e for n, e in recipe.blocks.items() if e.kind == "stats"}})


def store_of(job: Job) -> Store:
    """The store of this size."""
    from kit.store import Store

    return Store(job.order.place / "store")


def submission_of(job: Job) -> Path:
    """Where the profile stage writes."""
    return job.order.place / "submission"


def open_history(job: Job) -> History:
    """The History before the cut; its tables are made if they are not there."""
    from kit.data.layout import DataFolder
    from kit.history import History

    return History.open(DataFolder(job.order.data), store=store_of(job))


def folder_mib(folder: Path) -> float:
    """MiB of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def slice_of_blocks(recipe_file: Path) -> Callable[[Job], None]:
    """A stage that prepares the tables and runs the blocks of a recipe, factorisations left out, from nothing."""

    def run(job: Job) -> None:
        from kit.profile.build import run_block
        from kit.recipe import read_recipe

        recipe = read_recipe(recipe_file)
        shutil.rmtree(job.order.place, ignore_errors=True)
        with job.clock():
            history = open_history(job)
            for name, entry in recipe.blocks.items():
                if entry.kind != "als":
                    run_block(name, entry, recipe.seed, history, store_of(job))
        shutil.rmtree(job.order.place, ignore_errors=True)

    return run


TABLES: Final = ("numpy", "polars", "kit.history")
FRAMES: Final = (*TABLES, "kit.features.describe", "kit.profile.build", "kit.blocks.stats")
TORCH: Final = ("torch", "kit.probes.registry", "kit.probes.mlp", "kit.scoring.score", "kit.tasks.labels")

STAGES: Final[dict[str, Stage]] = {
    "synth": Stage(
        "Synthetic shop", "Five event tables and the catalogue, as text-stamped parquet.", synth,
        imports=("kit.data.shop", "curves.shops"), progress="shards",
    ),
    "split": Stage(
        "Split", "Input before the cut, two target windows, target lists.", split, ("synth",), ("kit.data.split",)
    ),
    "events": Stage(
        "Events of the History", "Digests of the files; each table narrowed to the relevant clients, typed, joined, sorted.",
        events, ("split",), TABLES,
    ),
    "floor": Stage(
        "Floor of the feature build", "Decode the needed columns once, group the rows by client once.", floor.run,
        ("events",), TABLES,
    ),
    "features": Stage(
        "Hand-made features", "The three feature blocks of pipelines/stats.toml, built and stored.", features, ("events",),
        FRAMES,
    ),
    "baseline": Stage(
        "The organisers' features", "The block of pipelines/baseline.toml: their features, our code.", baseline, ("events",),
        (*FRAMES, "kit.blocks.organisers"),
    ),
    "factorise": Stage(
        "Factorisation", "Both ALS blocks of pipelines/stats.toml: fit, and a vector per client.", factorise, ("events",),
        (*FRAMES, "implicit.als", "kit.blocks.als"),
    ),
    "tokens": Stage(
        "Tokens", "All events of the relevant clients as flat arrays, written to disk.", tokens, ("events",),
        (*TABLES, "kit.tokens"),
    ),
    "graph": Stage(
        "Graph edges", "Vocabulary and weighted edges of eight relations; those of clients written to disk.", graph, ("events",),
        (*TABLES, "kit.blocks.edges"),
    ),
    "profile": Stage(
        "Profile assembly", "Scale, impute and permute the stored feature blocks; write the submission.", profile,
        ("features",), (*FRAMES, "sklearn.preprocessing", "sklearn.decomposition", "kit.submission"),
    ),
    "validate": Stage(
        "Validate", "Everything kit validate looks at.", validate, ("profile",), (*FRAMES, "kit.submission")
    ),
    "labels": Stage(
        "Labels", "Label matrices of the six tasks in both windows.", probing.labels, ("profile",), TORCH
    ),
    "fast": Stage(
        "Fast probe", "Six tasks, three epochs, metrics.", probing.fast, ("profile",), TORCH
    ),
    "gbm": Stage(
        "LightGBM probe", "Binning, six tasks, metrics.", probing.gbm, ("profile",), (*TORCH, "kit.probes.gbm")
    ),
    "official": Stage(
        "Official probe", "A slice of its training steps and scoring passes, and the metrics; six tasks, three epochs.",
        probing.official, ("profile",), TORCH,
    ),
}  # fmt: skip

SLICES: Final[dict[str, Stage]] = {
    "slice-baseline": Stage(
        "kit: the same features", "Tables and pipelines/baseline.toml.", slice_of_blocks(BASELINE), imports=FRAMES
    ),
    "slice-stats": Stage(
        "kit: hand-made features", "Tables and the feature blocks of pipelines/stats.toml.", slice_of_blocks(STATS),
        imports=FRAMES,
    ),
}  # fmt: skip
