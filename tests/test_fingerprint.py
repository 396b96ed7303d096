"""Fingerprints of code: what a part's module imports, and nothing else; comments and docstrings make no difference."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from kit.blocks.base import BLOCKS, make_block
from kit.errors import KitError
from kit.features.registry import FAMILIES
from kit.fingerprint import KIT, Code, CodePlace, Library, Snapshot, code_of, function_code
from kit.models.objectives import OBJECTIVES
from kit.models.sequence import ENCODERS
from kit.probes.registry import PROBES
from kit.recipe import BlockEntry
from kit.registry import Registry
from kit.studies.calibration.stand_ins import STAND_INS
from kit.syntax import parse_source


def says(text: str) -> str:
    return parse_source(text.encode(), "m", package=False).digest


TEXT = '''"""Head."""
LIMIT = 3
"""Of a constant."""

def f(x: int) -> int:
    """What f is."""
    if x > LIMIT:
        raise KitError(f"{x} is too much.", "Give less.")
    return x + 1  # why
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Head."""', '"""Other words."""'),
        ('"""Head."""\n', ""),
        ('"""Of a constant."""', ""),
        ('    """What f is."""\n', ""),
        ("  # why", "  # another reason"),
        ("x + 1", "(x\n      + 1)"),
        ("Give less.", "Take less."),
        ('"Give less."', "'Give less.'"),
    ],
)
def test_words_and_form_make_no_difference(old: str, new: str):
    assert old in TEXT
    assert says(TEXT) == says(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = '3'"),
        ("x + 1", "x - 1"),
        ("x > LIMIT", "x >= LIMIT"),
        ("x: int", "y: int"),
        ("return x + 1", "return None"),
        ("KitError(f", "ValueError(f"),
    ],
)
def test_a_statement_makes_one(old: str, new: str):
    assert old in TEXT
    assert says(TEXT) != says(TEXT.replace(old, new))


def test_what_a_class_claims_to_solve_makes_no_difference_and_its_other_attributes_do():
    plain = "class Part:\n    kind = 'x'\n"
    assert says(plain) == says(plain + "    solves: tuple = (1,)\n")
    assert says(plain) != says(plain + "    solver: tuple = (1,)\n")
    assert says("x = 1") != says("x = 1\nsolves = 2")


FILES = {
    "__init__": "",
    "part": "from typing import TYPE_CHECKING\n"
    "from .near import one\n"
    "from shelf.room import thing, deep\n"
    "import shelf.whole\n"
    "if TYPE_CHECKING:\n    from shelf.typed import T\n"
    "def f():\n    from shelf import late\n    return ['-m', 'shelf.started', 'shelf.room', 'shelf.nothing']\n",
    "near": "one = 1",
    "whole": "from kit.challenge import EventType",
    "typed": "T = int",
    "late": "import neighbour",
    "started": "",
    "unused": "",
    "room/__init__": '"""A room."""\nfrom shelf.room.a import thing\nfrom .b import other\n__all__ = ["thing", "other"]',
    "room/a": "thing = 1",
    "room/b": "other = 2",
    "room/deep": "",
}
COUNTED = {"__init__", "part", "near", "whole", "late", "started", "room/__init__", "room/a", "room/deep"}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody's, on the path; its modules are forgotten afterwards."""
    (tmp_path / "shelf" / "room").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "shelf" / f"{name}.py").write_text(text)
    (tmp_path / "neighbour.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    __import__("shelf.part")
    yield tmp_path / "shelf"
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_closure_is_what_is_imported(shelf: Path):
    found = set(Library(Path.read_bytes).code("shelf.part").files)
    ours = {f"shelf/{name}.py" for name in COUNTED}
    assert found == ours | {"neighbour.py", "kit/challenge.py"}


def test_a_name_that_comes_from_elsewhere_is_followed_there(shelf: Path):
    before = Library(Path.read_bytes).code("shelf.part")
    (shelf / "room" / "b.py").write_text("other = 3")
    assert Library(Path.read_bytes).code("shelf.part") == before
    (shelf / "room" / "__init__.py").write_text(FILES["room/__init__"].replace("room.a import", "room.b import"))
    after = Library(Path.read_bytes).code("shelf.part")
    assert set(after.files) ^ set(before.files) == {"shelf/room/a.py", "shelf/room/b.py"}
    (shelf / "room" / "__init__.py").write_text(
        FILES["room/__init__"] + "\nprint()"
    )  # it does something: all of it counts
    assert "shelf/room/b.py" in Library(Path.read_bytes).code("shelf.part").files


def test_a_library_beside_an_installed_part_is_no_part_of_it(shelf: Path):
    assert CodePlace("shelf", shelf.parent).find("neighbour") == shelf.parent / "neighbour.py"
    assert CodePlace("shelf", shelf.parent / "site-packages").find("neighbour") is None


def test_what_runs_is_what_is_digested(shelf: Path):
    """An edit while a run goes on: its results must not be filed under code that did not make them."""
    snapshot = Snapshot()
    snapshot.note("shelf.part")
    (shelf / "near.py").write_text("one = 2")
    running, later = Library(snapshot.read).code("shelf.part"), Library(Path.read_bytes).code("shelf.part")
    assert running == Code(running.files | later.files | {"shelf/near.py": says("one = 1")})
    assert running.digest != later.digest == Code(running.files | {"shelf/near.py": says("one = 2")}).digest


def test_registering_a_part_notes_its_code(shelf: Path):
    registry: Registry[object] = Registry("thing")
    registry.add("one", object(), "shelf.part")
    (shelf / "near.py").write_text("one = 2")
    assert code_of("shelf.part").files["shelf/near.py"] == says("one = 1")


def test_a_part_without_a_file_is_refused():
    part = type("Part", (), {"__module__": "typed_in"})
    with pytest.raises(KitError, match="typed_in has no source file"):
        code_of(part)


def registered() -> dict[str, tuple[str, ...]]:
    """`registry name` → modules that decide it, of everything that is registered in the kit."""
    for parts in (BLOCKS, FAMILIES, ENCODERS, OBJECTIVES, PROBES):
        parts.loaded()
    assert "paced-256" in STAND_INS
    found = {}
    for registry in [item for item in gc.get_objects() if type(item) is Registry]:
        for name in registry:
            (module,) = registry.modules([name])
            if module.startswith("kit."):
                found[f"{registry.noun} {name}"] = (module,)
    for kind in BLOCKS.loaded():
        unit = make_block(kind, BlockEntry(kind=kind), 0)
        found[f"block {kind}"] = (type(unit).__module__, *unit.parts())
    return found


def test_every_part_follows_each_module_that_it_is_made_of():
    every = registered()
    parts = {name: modules for modules, name in {modules: name for name, modules in every.items()}.items()}
    assert {name.rpartition(" ")[0] for name in every} >= {"block", "feature family", "probe", "stand-in", "objective"}
    library = Library(Path.read_bytes)
    codes = {name: library.code(*modules) for name, modules in parts.items()}
    said = {name: digest for code in codes.values() for name, digest in code.files.items()}
    for shown in sorted(said):
        file = KIT.parent / shown
        assert says(file.read_text(encoding="utf-8") + "\n'words'\n# and more\n") == said[shown], shown
        changed = Library(lambda path, file=file: Path.read_bytes(path) + b"\nCHANGED = 1\n" * (path == file))
        changed._sources = {key: source for key, source in library._sources.items() if key[1] != file}
        changed._steps = {key: step for key, step in library._steps.items() if shown not in step[0]}
        for name, code in codes.items():
            again = changed.code(*parts[name])
            if (again.digest != code.digest) != (shown in code.files):
                raise AssertionError(f"{name} and {shown}")


def test_the_contract_counts_where_it_is_read_and_benchmarks_nowhere():
    code = {kind: make_block(kind, BlockEntry(kind=kind), 0).code().files for kind in BLOCKS.loaded()}
    assert all("kit/challenge.py" in files for files in code.values())
    assert not any(name.startswith(("tests/", "kit/cli/", "kit/report/")) for files in code.values() for name in files)
    assert not set(code["als"]) & {"kit/blocks/stats.py", "kit/blocks/combined.py", "kit/models/training.py"}
    assert {"kit/models/sequence/transformer.py", "kit/models/training.py", "kit/tokens/build.py"} <= set(
        code["sequence"]
    )
    assert "kit/models/sequence/gru.py" not in code["sequence"]
    assert "kit/probes/gbm_worker.py" in code_of("kit.probes.gbm").files  # named by a string: a process of its own


def test_only_the_families_that_are_used_count():
    entry = BlockEntry.model_validate({"kind": "stats", "families": ["counts", "gaps"], "without": ["gaps"]})
    files = make_block("x", entry, 0).code().files
    assert "kit/features/counts.py" in files
    assert not {"kit/features/gaps.py", "kit/features/recency.py", "kit/features/browsing.py"} & set(files)


def test_a_function_among_others_is_a_part_of_its_own():
    """One candidate's change must not throw away hours of another's results."""
    slim, ridge = (function_code(STAND_INS[name].run).files for name in ("slim", "ridge"))
    assert "kit/studies/calibration/random_features.py" in set(ridge) - set(slim)
    assert {"kit/probes/mlp.py", "kit/probes/network.py"} <= set(slim)
    assert "kit/scoring/stand_ins.py" not in {*slim, *ridge}
    assert "kit/probes/gbm_worker.py" in function_code(STAND_INS["gbm"].run).files


def test_the_command_line_does_not_load_it():
    ask = "import kit.cli.main, sys; sys.exit('kit.fingerprint' in sys.modules or 'kit.plugins' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0
