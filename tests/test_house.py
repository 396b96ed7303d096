"""The house rules that a program can see: one class name has one meaning, and a function fits on a screen."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import kit

ROOT = Path(kit.__file__).parent
LONGEST = 60
"""Lines of a function, its docstring included."""
NESTED = frozenset({"Settings"})
"""Of a block, a part, a family: schemas that are always named with their owner."""


def nodes(root: Path) -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(root).as_posix(), node


def doubles(root: Path) -> dict[str, list[str]]:
    """Class name → the files that define it, where those are several."""
    found = defaultdict[str, list[str]](list)
    for file, node in nodes(root):
        if isinstance(node, ast.ClassDef) and node.name not in NESTED:
            found[node.name].append(file)
    return {name: files for name, files in found.items() if len(set(files)) > 1}


def too_long(root: Path) -> list[str]:
    return [
        f"{file}:{node.lineno} {node.name}"
        for file, node in nodes(root)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > LONGEST
    ]


def test_one_class_name_has_one_meaning() -> None:
    assert doubles(ROOT) == {}


def test_a_function_fits_on_a_screen() -> None:
    assert too_long(ROOT) == []


def test_what_breaks_the_rules_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Row: ...\nclass Settings: ...\n")
    (tmp_path / "b.py").write_text("class Row: ...\nclass Settings: ...\ndef f():\n" + "    x = 1\n" * LONGEST)
    assert doubles(tmp_path) == {"Row": ["a.py", "b.py"]}
    assert too_long(tmp_path) == ["b.py:3 f"]
