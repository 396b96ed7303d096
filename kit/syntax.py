"""What a source file says to `kit.fingerprint`: a digest of its syntax without docstrings, and what it imports."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

DOTTED: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Import:
    """`import module` (no name), `from module import name`; `quoted` if it is a string that may name a module."""

    module: str
    name: str | None = None
    quoted: bool = False


@dataclass(frozen=True)
class ModuleSource:
    """What one file says.

    Attributes:
        digest: of its syntax tree without docstrings.
        imports: all of them, late ones too.
        hands_on: name → where it comes from, of a package's `__init__` that does nothing else; None for any other module.
    """

    digest: str
    imports: tuple[Import, ...]
    hands_on: Mapping[str, Import] | None


def parse_source(content: bytes, name: str, *, package: bool) -> ModuleSource:
    """What a module's file says.

    Args:
        content: its bytes.
        name: the module's, for relative imports.
        package: whether the file is an `__init__.py`.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # being edited: nothing that is loaded looks like this
        return ModuleSource(hashed(repr(content)), (), None)
    body = [node for node in tree.body if not _stands_alone(node)]
    hands_on = None
    if package and body and all(_is_import(node) or names_set(node) == ["__all__"] for node in body):
        hands_on = {bound: found for node in body for bound, found in imported(node, name, package)}
    return ModuleSource(hashed(written(tree)), tuple(dict.fromkeys(imports_in(tree, name, package))), hands_on)


def imports_in(tree: ast.AST, module: str, package: bool) -> Iterator[Import]:
    """Every import below a node but those for type checkers, and strings in the form of a module's name."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _for_type_checkers(node.test):
            waiting += node.orelse
            continue
        if _is_import(node):
            yield from (found for _, found in imported(node, module, package))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            yield Import(node.value, quoted=True)
        waiting += ast.iter_child_nodes(node)


def imported(node: ast.AST, module: str, package: bool) -> Iterator[tuple[str, Import]]:
    """Names that an import statement binds, and what they come from."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], Import(alias.name)
    elif isinstance(node, ast.ImportFrom):
        above = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            yield alias.asname or alias.name, Import(source, alias.name)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def names_set(node: ast.AST) -> list[str]:
    """Names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _stands_alone(node: object) -> bool:
    """Whether a statement is a string and nothing more: a docstring, also that of a constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _claims(owner: ast.AST, node: object) -> bool:
    """Whether a statement of a class says what the class claims to solve (`kit.claims`): that decides nothing."""
    return isinstance(owner, ast.ClassDef) and isinstance(node, ast.AST) and names_set(node)[:1] == ["solves"]


def written(node: ast.AST) -> str:
    """A syntax tree in words: equal for code that differs in comments, formatting, docstrings, claims and words of a KitError
    alone."""
    out: list[str] = []
    _write(node, out)
    return " ".join(out)


def _write(node: ast.AST, out: list[str]) -> None:
    """A syntax tree in words that no version of Python spells otherwise: positions, contexts and empty fields are left out."""
    out.append(type(node).__name__)
    raised = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
    if isinstance(raised, ast.Name) and raised.id == "KitError":
        return
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            kept = [item for item in value if not (_stands_alone(item) or _claims(node, item))]
            if kept:
                out.append(f"{field}[")
                for item in kept:
                    _write(item, out) if isinstance(item, ast.AST) else out.append(repr(item))
                out.append("]")
        elif isinstance(value, ast.AST):
            if not isinstance(value, ast.expr_context):
                out.append(f"{field}(")
                _write(value, out)
                out.append(")")
        elif value is not None or isinstance(node, ast.Constant):
            out.append(f"{field}={value!r}")


def hashed(text: str) -> str:
    """16 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
