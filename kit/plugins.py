"""Plugins: packages of others that bring parts (blocks, families, probes …) by registering them when they are imported.

A plugin is known by one of two ways:

- it is installed, and has an entry point of the group `kit.plugins` whose value is a module: `acme = "acme_kit"`;
- a recipe names it: `plugins = ["acme_kit"]`. What is installed or on PYTHONPATH comes first, then the recipe's own folder, then
  the working directory.

A plugin that is a package is imported with all modules in it, so that each part may be a file. Processes started from this one
(trainings, search workers, LightGBM's) learn of a recipe's plugins by two environment variables and import them as well.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final

from kit.errors import KitError

GROUP: Final = "kit.plugins"
"""Of entry points."""
NAMES: Final = "KIT_PLUGINS"
"""Environment variable: modules, comma-separated."""
FOLDERS: Final = "KIT_PLUGIN_PATH"
"""Environment variable: where some of them lie, as in PYTHONPATH."""

_done: set[str] = set()


def use_plugins(modules: Sequence[str], where: str, folders: Iterable[Path] = ()) -> None:
    """Import plugins that a recipe names, here and in every process that is started from here on.

    Args:
        modules: dotted names.
        where: who names them, for messages: `pipelines/mine.toml`.
        folders: where to look before the working directory for what is not importable yet.

    Raises:
        KitError: there is no such module, it fails, or it registers a name that is taken.
    """
    for name in modules:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise KitError(f"{where}: {name!r} is no module's name.", 'Write plugins = ["mypackage.mymodule"].')
        _make_importable(name.partition(".")[0], [*folders, Path.cwd()])
        _use(name, f"the plugin {name!r}, named by {where},", f"{where}: there is no plugin {name!r}")
        _tell(NAMES, name, ",")


def use_known() -> None:
    """Import the installed plugins, and those that the process which started this one had loaded for a recipe.

    Raises:
        KitError: one of them cannot be imported, or registers a name that is taken.
    """
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)
    for name in filter(None, os.environ.get(NAMES, "").split(",")):
        _use(name, f"the plugin {name!r}, named by {NAMES},", f"There is no plugin {name!r}, named by {NAMES}")
    for point in metadata.entry_points(group=GROUP):
        package = point.dist.name if point.dist is not None else point.name
        _use(
            point.module,
            f"the plugin {point.module!r} of the installed package {package}",
            f"There is no plugin {point.module!r}, though the installed package {package} names it",
        )


def use_plugins_of(submission: Path) -> None:
    """Import the plugins that a submission was made with, from where they were then if they are not importable by themselves.

    A folder without a readable manifest, such as somebody else's vectors, names none.

    Raises:
        KitError: as `use_plugins`.
    """
    try:
        manifest = json.loads((submission / "manifest.json").read_text(encoding="utf-8"))
        modules, found = manifest["recipe"]["plugins"], manifest["plugins"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    use_plugins(modules, str(submission), [Path(found[name]) for name in modules if name in found])


def places(modules: Iterable[str]) -> dict[str, str]:
    """Loaded plugin → the folder that it was imported from."""
    found = {}
    for name in modules:
        top = sys.modules[name.partition(".")[0]]
        if top.__file__ is not None:
            found[name] = str(Path(top.__file__).resolve().parents[hasattr(top, "__path__")])
        else:
            found[name] = str(Path(next(iter(top.__path__))).resolve().parent)
    return found


def _make_importable(top: str, folders: Sequence[Path]) -> None:
    """Add the first folder that holds this package or file to where Python looks, at the end: nothing is hidden by it."""
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    for folder in folders:
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            found = str(folder.resolve())
            sys.path.append(found)
            importlib.invalidate_caches()
            _tell(FOLDERS, found, os.pathsep)
            return


def _tell(variable: str, value: str, between: str) -> None:
    told = [part for part in os.environ.get(variable, "").split(between) if part]
    if value not in told:
        os.environ[variable] = between.join([*told, value])


def _use(name: str, it: str, missing: str) -> None:
    """Import a plugin and all modules in it, once. What it means to run is left alone: `__main__`, and names with a leading _."""
    if name in _done:
        return
    _done.add(name)  # before: a plugin may ask for parts while it is imported
    try:
        module = importlib.import_module(name)
        for inner in _inside(module):
            importlib.import_module(inner)
    except KitError:
        _done.discard(name)
        raise
    except ModuleNotFoundError as error:
        _done.discard(name)
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failure(it, error) from error
        raise KitError(
            f"{missing}: {error}.",
            "Install its package, or add the folder that holds it to PYTHONPATH; "
            "the recipe's own folder and the working directory are looked in as well.",
        ) from error
    except Exception as error:
        _done.discard(name)
        raise _failure(it, error) from error


def _inside(module: ModuleType) -> list[str]:
    """Modules in a package, at any depth."""
    folders = getattr(module, "__path__", None)
    if folders is None:
        return []
    found = []
    for inner in pkgutil.iter_modules(folders, f"{module.__name__}."):
        if not inner.name.rpartition(".")[2].startswith("_"):
            found.append(inner.name)
            found += _inside(importlib.import_module(inner.name)) if inner.ispkg else []
    return found


def _failure(it: str, error: Exception) -> KitError:
    at = error.__traceback__
    line = traceback.extract_tb(at)[-1] if at is not None else None
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
        said = error.msg
    else:
        place = f" ({line.filename}, line {line.lineno})" if line is not None else ""
        said = str(error)
    return KitError(
        f"{it[0].upper()}{it[1:]} fails while it is imported: {type(error).__name__}: {said}{place}.",
        "Mend it, or leave it out.",
    )
