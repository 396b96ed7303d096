"""Which code decides a part's bytes, and its digest: the modules that a part's module imports, and what those import in turn.

The closure is read off the source by `ast`, so nothing is imported for it. It holds the modules of `kit` and of the package that
the part itself lies in, such as a plugin's; libraries are recorded by their versions instead (`store.LIBRARIES`).

- Counted: imports at the top and inside functions, relative ones too, and modules that are named in full by a string
  ("kit.probes.gbm_worker", which is started as a process of its own).
- Not counted: imports for type checkers alone, and what a registry finds by looking through a folder: a block whose
  settings choose registered parts by name says which (`Block.parts`).
- `from package import name` leads through an `__init__` that does nothing but hand on names to where the name comes from; such an
  `__init__` counts, and the other modules that it names do not.
- Comments, formatting, docstrings, other strings that stand alone, and the words of a `raise KitError(…)` make no difference.

What is digested is the code that runs: a file edited meanwhile counts as it was when this process loaded it (`Snapshot`).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Final

from kit.errors import KitError
from kit.syntax import Import, ModuleSource, hashed, imported, imports_in, names_set, parse_source, written

KIT: Final = Path(__file__).parent
INERT: Final = frozenset(
    {
        "kit",  # `kit/__init__.py` alone: the version, and how memory is asked for
        "kit.cli",  # reads what was asked for; settings are inputs of their own
        "kit.claims",  # what parts are tested for
        "kit.errors",  # wording, and how bad a finding is
        "kit.progress",  # what is said while work goes on
        "kit.tracking",  # logs of runs
        "kit.registry",  # finds parts by name: the part found is in the closure by itself
        "kit.plugins",  # the same for those of others
        "kit.fingerprint",
        "kit.syntax",  # another way to digest gives other digests anyway
        "kit.store",  # where artefacts lie and how they are written, never what is in them
        "kit.lineage",  # compares what artefacts say
        "kit.data.contract",  # refuses data; what it lets pass is read by others
        "kit.limits.crowd",  # when threads wait asleep
        "kit.limits.need",  # estimates of memory and disk for the plan made before a run
        "kit.limits.size",  # sizes as people write them
        "kit.limits.watchdog",  # watches memory
        "kit.blocks.sizes",
        "kit.blocks.combined_need",  # estimates for blocks
        "kit.features.describe",  # lists of features for people, and their number for estimates
        "kit.features.sizes",  # estimates for features; passes may be of any size, the numbers do not depend on it
        "kit.profile.costs",  # how long blocks will take
        "kit.submission.card",  # a page about a finished submission
    }
)
"""Modules that decide no byte of any part; with a package, all that is below it, but for `kit` itself."""
LIBRARY_FOLDERS: Final = ("site-packages", "dist-packages")

Read = Callable[[Path], bytes]


@dataclass(frozen=True)
class Code:
    """Source files that decide something.

    Attributes:
        files: `kit/history.py` → digest of what it says, comments and docstrings left out; by name.
    """

    files: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """32 hex digits of all files."""
        text = "\n".join(f"{name} {value}" for name, value in sorted(self.files.items()))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def __or__(self, other: Code) -> Code:
        return Code(dict(sorted({**self.files, **other.files}.items())))


class Library:
    """Modules of the kit and of those who extend it, read once.

    Args:
        read: a file's bytes.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._sources: dict[tuple[str, Path], ModuleSource] = {}
        self._steps: dict[tuple[Import, CodePlace], tuple[dict[str, str], list[Import]]] = {}

    def code(self, *parts: object) -> Code:
        """The closure of modules (by name), classes and functions.

        Raises:
            KitError: a part was not defined in a file.
        """
        files: dict[str, str] = {}
        for name in dict.fromkeys(module_of(part) for part in parts):
            files |= self._closure([Import(name)], CodePlace.of(name))
        return Code(dict(sorted(files.items())))

    def function_code(self, function: Callable[..., Any]) -> Code:
        """The closure of one function: itself, what it names in its own module, and the imports that these name.

        For functions that share a file with others that have nothing to do with them.
        """
        module = module_of(function)
        place = CodePlace.of(module)
        file = place.find(module)
        assert file is not None
        tree = ast.parse(self._read(file))
        defined = {name: node for node in tree.body for name in names_set(node)}
        known = {bound: found for node in tree.body for bound, found in imported(node, module, package=False)}
        wanted = [inspect.unwrap(function).__name__]
        nodes: dict[str, ast.AST] = {}
        imports: list[Import] = []
        while wanted:
            name = wanted.pop()
            if name in defined and name not in nodes:
                nodes[name] = node = defined[name]
                if isinstance(node, ast.FunctionDef):
                    node.decorator_list = []  # they register it: a description decides nothing
                wanted += [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
                imports += imports_in(defined[name], module, package=False)
            elif name in known:
                imports.append(known[name])
        own = hashed(" ".join(written(node) for _, node in sorted(nodes.items())))
        return Code({f"{place.shown(file)}:{function.__name__}": own}) | Code(self._closure(imports, place))

    def _closure(self, start: Iterable[Import], place: CodePlace) -> dict[str, str]:
        """Shown file → digest, of everything that these imports lead to."""
        found: dict[str, str] = {}
        seen: set[Import] = set()
        waiting = list(start)
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            files, leads = self._step(one, place)
            found |= files
            waiting += leads
        return found

    def _step(self, one: Import, place: CodePlace) -> tuple[dict[str, str], list[Import]]:
        """The files that an import runs, and the imports that these lead to."""
        if (one, place) in self._steps:
            return self._steps[one, place]
        files: dict[str, str] = {}
        leads: list[Import] = []
        for name, whole in self._reached(one, place):
            file = place.find(name)
            if file is None or _inert(name):
                continue
            source = self._source(name, file)
            files[place.shown(file)] = source.digest
            if source.hands_on is None:
                leads += source.imports
            elif whole:
                leads += source.hands_on.values()
            elif name == one.module and one.name is not None and one.name in source.hands_on:
                leads.append(source.hands_on[one.name])
        self._steps[one, place] = files, leads
        return files, leads

    def _reached(self, one: Import, place: CodePlace) -> Iterator[tuple[str, bool]]:
        """Modules that an import runs, and whether all that they hand on is meant."""
        file = place.find(one.module)
        package = file is not None and file.name == "__init__.py"
        if one.quoted and (file is None or package):  # words, or a folder that a registry looks through
            return
        above = one.module.split(".")
        for count in range(1, len(above)):
            yield ".".join(above[:count]), False
        yield one.module, one.name in {None, "*"}
        if one.name is not None and (file is None or package):
            source = None if file is None else self._source(one.module, file)
            if source is None or source.hands_on is None or one.name not in source.hands_on:
                yield f"{one.module}.{one.name}", True

    def _source(self, name: str, file: Path) -> ModuleSource:
        key = (name, file)
        if key not in self._sources:
            self._sources[key] = parse_source(self._read(file), name, package=file.name == "__init__.py")
        return self._sources[key]


@dataclass(frozen=True)
class CodePlace:
    """Where a part's own modules lie: the kit, and the folder that its package or file is imported from.

    Attributes:
        top: the first word of its module.
        folder: what `top` lies in.
    """

    top: str
    folder: Path

    @classmethod
    def of(cls, module: str) -> CodePlace:
        """Of a module that may be loaded already.

        Raises:
            KitError: it has no source file.
        """
        top = module.partition(".")[0]
        if top == KIT.name:
            return cls(top, KIT.parent)
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or not Path(file).exists():
            raise KitError(
                f"{module} has no source file, so what it makes could not be told from what an edited one makes.",
                "Put the part into a file of its own and import that.",
            )
        path = Path(file).resolve()
        levels = module.count(".") + (path.name == "__init__.py")
        return cls(path.stem if module == "__main__" else top, path.parents[levels])

    def find(self, name: str) -> Path | None:
        """The file of a module, if it is one of these; packages by their `__init__`."""
        top = name.partition(".")[0]
        if top == KIT.name:
            return _file(KIT.parent, name)
        if name == "__main__":
            name = top = self.top
        if top != self.top and self.folder.name in LIBRARY_FOLDERS:  # its neighbours there are everybody's
            return None
        return _file(self.folder, name)

    def shown(self, file: Path) -> str:
        """`kit/history.py`, `acme/blocks.py`."""
        base = KIT.parent if file.is_relative_to(KIT) else self.folder
        return file.relative_to(base).as_posix()


@cache
def _file(folder: Path, name: str) -> Path | None:
    path = folder.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def module_of(part: object) -> str:
    """The module that a class, a function or a bound one was written in; a string is a module's name."""
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        return module_of(part.func)
    return str(part.__module__)


def _inert(name: str) -> bool:
    return name in INERT or any(name.startswith(f"{module}.") for module in INERT - {"kit"})


class Snapshot:
    """Source files as they were when this process loaded them."""

    def __init__(self) -> None:
        self._known: dict[Path, bytes] = {}
        self._tops = {KIT.name}
        self._seen = 0

    def read(self, file: Path) -> bytes:
        """A file as it was when it was loaded, or first asked for. Whoever edits it meanwhile does not change what is running,
        and results must not be filed under code that did not make them."""
        if file not in self._known:
            self._known[file] = file.read_bytes()
        return self._known[file]

    def note(self, module: str) -> None:
        """Remember the files of all modules loaded by now from the kit, from this module's package and those named before."""
        top = module.partition(".")[0]
        names = list(sys.modules)
        news = names if top not in self._tops else names[self._seen :]
        self._tops.add(top)
        self._seen = len(names)
        for name in news:
            file = getattr(sys.modules.get(name), "__file__", None) if name.partition(".")[0] in self._tops else None
            if file is not None and file.endswith(".py") and Path(file).is_file():
                path = Path(file)
                self.read(path if path.is_relative_to(KIT) else path.resolve())


_snapshot = Snapshot()
_library = Library(_snapshot.read)


def note_loaded(module: str) -> None:
    """Remember the code that is loaded by now. Registries call it whenever a part registers itself, that is while its module is
    being loaded, so that an edit cannot come between loading and digesting."""
    _snapshot.note(module)


def code_of(*parts: object) -> Code:
    """The code that decides the bytes of these parts: modules (by name), classes, functions.

    Raises:
        KitError: a part was not defined in a file.
    """
    return _library.code(*parts)


def function_code(function: Callable[..., Any]) -> Code:
    """The code that decides what one function returns: itself, what it names in its module, and the imports that these name."""
    return _library.function_code(function)
