"""Damaged folders, and what the kit's commands make of them: words and a remedy, never a traceback, never another result unsaid.

`python tests/data/fuzz_folders.py --runs 500` damages a sound data folder and its submission 500 times, in one or two places, and
runs the commands on each. Two things are required of every run:

- Nothing comes through but a `KitError`, or an error of a library or the system that the net at the top (`kit.trouble`) knows.
- No silent difference. Where what comes out is not what comes out of the sound folder, it was refused, or `kit data check` or
  `kit validate` say an error or a warning that they do not say of the sound folder. What comes out: features, ids and vectors
  of a submission that is built anew, the labels of all tasks, and what `kit data split` writes.

What is other data by right, and may come out otherwise when it is split anew: raw files with other, valid values. The split that
was made from the former ones must be called stale before. Results that the kit only shows again are not looked into for a
changed digit: scores.json, manifest.json and the reports made of them. There, only tracebacks count.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # when run as a program
sys.path.insert(0, str(Path(__file__).parent))
from damages import damage
from toy import write_folder
from typer.testing import CliRunner

from kit.arrays import digest_of
from kit.cli.main import app
from kit.data.check import check_folder
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import Finding, KitError, Severity
from kit.features.build import build_features
from kit.features.registry import FeatureSettings
from kit.history import History
from kit.store import Store, digest
from kit.submission import validate
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE
from kit.tasks.labels import load_task
from kit.trouble import sentence

RECIPE = "name = 'mine'\n[blocks.counts]\nkind = 'stats'\nfamilies = ['counts', 'price']\n"
DATA, MADE, AGAIN, PLAN = Path("data"), Path("submissions/mine"), Path("submissions/again"), Path("mine.toml")
READING: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("status", str(PLAN), "--data", "data"),
    ("board",),
    ("compare", str(MADE), "submissions/other"),
    ("score", str(MADE), "--data", "data", "--task", "conversion", "--quiet"),
    ("report", str(MADE), "--format", "markdown"),
)
"""Commands of which tracebacks alone are looked for."""
ALONE = 0.7
"""Share of the runs with damage in one place: in two, what is said of the one would excuse silence about the other."""


@dataclass
class Seen:
    """What the commands made of one folder.

    Attributes:
        results: what came out, by name; None where it was refused.
        said: errors and warnings, of `check` and of `validate`.
        refusals: the sentences.
        tracebacks: what nobody foresaw.
    """

    results: dict[str, str | None] = field(default_factory=dict)
    said: dict[str, set[str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    def run(self, name: str, action: Callable[[], str]) -> None:
        """Do something, and keep what comes out of it."""
        self.results[name] = None
        try:
            self.results[name] = action()
        except BaseException as error:  # panics are no Exceptions
            self.failed(name, error)

    def failed(self, name: str, error: BaseException) -> None:
        """Keep what an action ended with."""
        told = None if isinstance(error, KeyboardInterrupt) else sentence(error)
        if isinstance(error, KeyboardInterrupt):
            raise error
        if told is None:
            self.tracebacks.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
        else:
            net = "" if isinstance(error, KitError) else f" (the net: {type(error).__name__})"
            self.refusals.append(f"{name}{net}: {told.what}")


@dataclass(frozen=True)
class World:
    """A sound folder, and what comes out of it."""

    sound: Path
    seen: Seen

    @classmethod
    def make(cls, root: Path) -> World:
        """Build it under `root`: data, split; two submissions, scored."""
        sound = root / "sound"
        sound.mkdir(parents=True)
        with chdir(sound):
            split_folder(write_folder(DATA, rows=300))
            PLAN.write_text(RECIPE)
            for name in ("mine", "other"):
                _invoke("submit", str(PLAN), "--data", "data", "--name", name)
                _invoke("score", f"submissions/{name}", "--data", "data", "--task", "conversion", "--quiet")
        work = root / "first"
        shutil.copytree(sound, work, symlinks=True)
        with chdir(work):
            seen = use()
        if seen.refusals or seen.tracebacks:
            raise AssertionError(seen)
        return cls(sound, seen)


def attempt(world: World, root: Path, seed: int) -> tuple[list[str], Seen, list[str]]:
    """Damage the folder in one or two places and use it.

    Returns:
        what was damaged, what was seen, and the differences that nobody spoke of.
    """
    rng = np.random.default_rng(seed)
    work = root / f"run-{seed}"
    shutil.copytree(world.sound, work, symlinks=True)
    try:
        with chdir(work):
            done = [damage(_files(), rng) for _ in range(1 if rng.random() < ALONE else 2)]
            seen = use()
        return done, seen, _silent(world.seen, seen)
    finally:
        shutil.rmtree(work)


def use() -> Seen:
    """All that is tried, in the folder that is the current one. The store there is that of the sound folder: stale artefacts in
    it must not pass for fresh ones, so all is done with an empty one too."""
    seen, data = Seen(), DataFolder(DATA)
    seen.run("check", lambda: _said(seen, "check", check_folder(DATA)))
    seen.run("validate", lambda: _said(seen, "validate", validate(Submission(MADE), data)))
    seen.run("features", lambda: _features(Store()))
    seen.run("features, empty store", lambda: _features(Store(Path("empty"))))
    seen.run("submit", _submitted)
    for task in CHALLENGE:
        seen.run(f"labels of {task.name}", lambda task=task: _labels(task, data))  # type: ignore[misc]
    for words in READING:
        seen.run(" ".join(words), lambda words=words: _invoke(*words))  # type: ignore[misc]
        seen.results.pop(" ".join(words))
    seen.run("split", _split)
    return seen


def _silent(sound: Seen, seen: Seen) -> list[str]:
    """Results that differ although neither check nor validate say more than of the sound folder."""
    told = {name: seen.said.get(name, set()) - sound.said[name] for name in sound.said}
    spoken = any(told.values()) or None in (seen.results["check"], seen.results["validate"])
    apart = [name for name, value in seen.results.items() if value not in (None, sound.results[name])]
    silent = [] if spoken else [name for name in apart if name not in ("check", "validate")]
    pair = [seen.results[name] for name in ("features", "features, empty store")]
    if None not in pair and pair[0] != pair[1]:
        silent.append("features: a stale artefact passed for a fresh one")
    return silent


def _files() -> list[Path]:
    """What may be damaged: the data folder's files and the first submission's."""
    return [path for top in (DATA, MADE) for path in sorted(top.rglob("*")) if path.is_file() and path.name[0] != "."]


def _said(seen: Seen, name: str, findings: list[Finding]) -> str:
    seen.said[name] = {f"{found.where}: {found.what}" for found in findings if found.severity is not Severity.INFO}
    return digest(sorted(seen.said[name]))


def _features(store: Store) -> str:
    history = History.open(DataFolder(DATA), store=store)

    frames = build_features(history, ["counts", "price"], FeatureSettings())
    return digest([[frame.columns, frame.hash_rows(seed=0).to_list()] for frame in frames])


def _submitted() -> str:
    _invoke("submit", str(PLAN), "--data", "data", "--name", "again")
    return _files_digest(AGAIN, ["client_ids.npy", "embeddings.npy"])


def _labels(task: Any, data: DataFolder) -> str:
    found = load_task(task, data.clients(), data)
    parts = [
        part for matrix in (found.train, found.validation) for part in (matrix.indptr, matrix.indices, matrix.data)
    ]
    return digest_of(found.rows, *parts, *([] if found.popularity is None else [found.popularity]))


def _split() -> str:
    split_folder(DATA)
    names = [path.relative_to(DATA).as_posix() for room in ("input", "target") for path in (DATA / room).glob("*")]
    return _files_digest(DATA, sorted(name for name in names if not name.endswith(("split.json", "made.json"))))


def _files_digest(root: Path, names: list[str]) -> str:
    return digest([[name, digest_of(np.fromfile(root / name, dtype=np.uint8))] for name in names])


def _invoke(*words: str) -> str:
    """Run `kit`; its exception, if it ended with one."""
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def tried(runs: Iterator[int], root: Path) -> Iterator[tuple[int, list[str], Seen, list[str]]]:
    """Attempts, one by one."""
    world = World.make(root)
    for seed in runs:
        yield seed, *attempt(world, root, seed)


def main() -> None:
    """Many runs, and their counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--show", action="store_true", help="print the refusals too")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        for seed, done, seen, silent in tried(iter(range(given.first, given.first + given.runs)), Path(place)):
            counts["runs"] += 1
            counts["tracebacks"] += bool(seen.tracebacks)
            counts["silent differences"] += bool(silent)
            counts["refused by a command"] += bool(seen.refusals)
            counts["refused by the net alone"] += any("(the net" in refusal for refusal in seen.refusals)
            counts["nothing to say"] += not seen.refusals and not any(seen.said.values())
            if seen.tracebacks or silent or given.show:
                print(seed, "; ".join(done))
                for line in seen.tracebacks:
                    print("    TRACEBACK", line)
                for line in silent:
                    print("    SILENT", line)
                for line in seen.refusals if given.show else ():
                    print("    refused:", line[:200])
                sys.stdout.flush()
    print(dict(counts))


if __name__ == "__main__":
    main()
