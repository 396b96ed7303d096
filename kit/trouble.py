"""What a disk, a reader of files or a stream raised, as a sentence with a remedy: one place for the whole kit.

`sentence` knows kinds of errors, not places: the system's errors by their numbers, readers' errors by the library that raised
them. Libraries need not be imported for that, so that `kit --help` stays instant. What it does not know is a mistake of the kit
itself (`unforeseen`): its traceback goes into a file.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from kit.errors import KitError

VARIABLE: Final = "KIT_TRACEBACK"
"""Set to anything but 0: tracebacks are shown beside the sentences."""
FULL: Final = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EFBIG: "The size limit for files is reached",
}
NEARLY_FULL: Final = 0.05
"""Share of a file system that may be free where it is called full."""
ROOM: Final = (
    "Make room or lift the limit, then run the same command: finished stages are kept. `kit clean` lists what can go; "
    "KIT_STORE and --out name folders on a larger disk."
)
WRITABLE: Final = (
    "Choose a folder that can be written: KIT_STORE=FOLDER for finished stages and logs, --out for results; "
    "or mend the permissions."
)
READERS: Final = (
    "polars", "pyo3_runtime", "pyarrow", "json", "tomllib", "pydantic", "pydantic_core", "pickle", "_pickle", "zipfile",
    "tarfile", "gzip", "bz2", "zlib", "_lzma", "struct", "lightgbm", "safetensors", "sqlalchemy", "sqlite3",
)  # fmt: skip
"""Packages whose own exceptions tell of what they read."""
READING: Final = (
    "numpy.lib",
    "json",
    "tomllib",
    "pickle",
    "zipfile",
    "tarfile",
    "gzip",
    "bz2",
    "lzma",
    "torch.serialization",
)
"""Modules in which a ValueError or the like tells of what was read: where they raise, the file is at fault."""
SAID: Final = {
    errno.EROFS: ("{name} cannot be written: the file system at {mount} is read-only.", WRITABLE),
    errno.EACCES: ("{name} may not be written or entered ({reason}).", WRITABLE),
    errno.ENOENT: ("{name} is missing.", "Check the path; it may have been moved or deleted meanwhile."),
    errno.ENOTDIR: ("{part} is no folder, where one is needed.", "Rename or remove it, or choose another place."),
    errno.EEXIST: ("{part} is there already, and no folder.", "Rename or remove it, or choose another place."),
    errno.EISDIR: ("{name} is a folder, where a file is needed.", "Remove it, or name a file in it."),
    errno.ENAMETOOLONG: ("{name} is too long for a name ({length} letters).", "Choose a shorter one."),
    errno.ELOOP: ("{name} is a link that leads back to itself.", "Remove the link and copy the file itself."),
    errno.EMFILE: (
        "Too many files are open at once (the limit is {limit}).",
        "Raise it: `ulimit -n 4096`, then run again.",
    ),
    errno.ENFILE: ("This machine has too many files open at once.", "End other programs, then run again."),
    errno.ENOMEM: ("Memory ran out ({reason}).", "Give --memory-limit, or run fewer things beside it."),
    errno.EIO: ("The disk failed on {name} ({reason}).", "Look at the disk (`dmesg`), and copy the file again."),
    errno.EPIPE: ("Another process ended too early ({reason}).", "Run the same command again; it goes on from there."),
    0: ("{name}: the system says: {reason}.", "Run again; if it stays so, choose another place for the file."),
}
"""What the system's errors mean, and what helps; 0: all others."""
MEMORY: Final = ("out of memory", "can't allocate memory", "memory allocation of")


def sentence(error: BaseException) -> KitError | None:
    """`error`, or what it was caused by, in plain words; None if nothing in it is known."""
    for cause in causes(error):
        if number_of(cause) in FULL:  # also where the clean-up after it failed in turn
            return _known(cause)
    at: BaseException | None = error
    while at is not None:
        known = _known(at)
        if known is not None:
            return known
        at = at.__cause__
    return None


def unforeseen(error: BaseException, folder: Path) -> KitError:
    """A mistake of the kit itself, whose traceback is kept under `folder`, or among temporary files where that cannot be."""
    frame, line = _innermost_of_ours(error)
    place = f", in {Path(frame.f_code.co_filename).name} line {line}" if frame is not None else ""
    path = file_at_hand(error)
    at_hand = f" The file at hand was {path}." if path is not None else ""
    kept = keep_traceback(error, folder)
    where = (
        f"Its traceback is in {kept}: please report it." if kept is not None else f"{VARIABLE}=1 shows its traceback."
    )
    return KitError(f"kit cannot handle this: {type(error).__name__}: {first_line(error)}{place}.{at_hand}", where)


def disk_trouble(error: Exception, path: Path) -> Exception:
    """A KitError if `error` means that no more could be written at `path` (full disk, quota, size limit), else `error`.

    NumPy (`requested and … written`) and Polars (`os error 28`) drop the error number, so their words are read too.
    """
    number = number_of(error)
    own = getattr(error, "filename", None)
    return _full(number, Path(own) if isinstance(own, str) else path) if number in FULL else error


def is_of_the_disk(error: BaseException) -> bool:
    """Whether an error tells of the disk or the system rather than of what is written in a file."""
    return number_of(error) is not None or isinstance(error, MemoryError)


def number_of(error: BaseException) -> int | None:
    """The system's number of an error, also where a library kept only its words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    words = str(error)
    if isinstance(error, RuntimeError) and words.startswith("Symlink loop"):  # pathlib, before Python 3.13
        return errno.ELOOP
    found = re.search(r"\(os error (\d+)\)", words)
    if found:
        return int(found[1])
    return errno.ENOSPC if "requested and" in words and "written" in words else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, the latest first."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its full stop, cut where it is endless."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given").rstrip(".")
    return line if len(line) <= 300 else line[:299] + "…"


def file_at_hand(error: BaseException) -> Path | None:
    """The file that the kit was busy with: the error's own, else a path that the innermost of our functions held."""
    name = getattr(error, "filename", None)
    if isinstance(name, str | bytes | os.PathLike):
        return Path(os.fsdecode(name))
    for frame, _ in reversed(list(_ours(error))):
        held = [value for value in frame.f_locals.values() if isinstance(value, Path)]
        files = [path for path in held if path.suffix]
        if held:
            return (files or held)[0]
    return None


def keep_traceback(error: BaseException, folder: Path) -> Path | None:
    """Write a traceback to a file; None where nothing can be written."""
    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        path = place / f"kit-traceback-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
        try:
            place.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return None


def _known(error: BaseException) -> KitError | None:
    """One error, without what led to it."""
    if isinstance(error, KitError):
        return error
    number = number_of(error)
    if number is not None:
        return _of_the_system(error, number)
    words = str(error)
    if isinstance(error, MemoryError) or any(word in words.lower() for word in MEMORY):
        return KitError(
            f"Memory ran out ({first_line(error)}).",
            "Give --memory-limit, so that work is cut into smaller pieces, or fewer columns; `kit submit --dry-run` says what "
            "every stage takes.",
        )
    if isinstance(error, UnicodeDecodeError):
        found = error.object[error.start : error.start + 1]
        return KitError(
            f"{_named(error)} is not {error.encoding} text: byte {error.start} is {found!r}.",
            "Save it as UTF-8, such as by `iconv -f latin1 -t utf-8`; a compressed or binary file has to be unpacked first.",
        )
    if isinstance(error, UnicodeEncodeError):
        letter = error.object[error.start : error.end]
        return KitError(
            f"{letter!a} cannot be written as {error.encoding}.", "Set PYTHONIOENCODING=utf-8, or rename it."
        )
    if isinstance(error, ImportError) and not (error.name or "kit").startswith("kit"):
        return KitError(f"The package {error.name} cannot be loaded ({first_line(error)}).", "Install the kit again.")
    if isinstance(error, NotImplementedError) and _from(error, ("filelock",)):
        return KitError("This file system knows no locks.", "Set KIT_STORE to a folder on a local disk.")
    if _package(error) in READERS or isinstance(error, EOFError) or _from(error, READING):
        return _of_a_reader(error)
    return None


def _of_the_system(error: BaseException, number: int) -> KitError:
    """An error with a number."""
    path = file_at_hand(error)
    if number in FULL:
        return _full(number, path or Path())
    if number == errno.EPERM:
        number = errno.EACCES
    if number == errno.EACCES and path is not None and os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        return KitError(f"{path} may not be read ({os.strerror(number)}).", "Mend its permissions, or copy it.")
    what, remedy = SAID.get(number, SAID[0])
    name = "A file" if path is None else str(path)
    longest = max((part for part in Path(name).parts), key=len, default="")
    fields = {
        "name": name if len(longest) <= 255 else f"{longest[:40]}…",
        "reason": os.strerror(number),
        "mount": _mount(path),
        "part": _first_file(path),
        "length": len(longest),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    return KitError(what.format_map(fields), remedy)


def _of_a_reader(error: BaseException) -> KitError:
    """A library cannot make sense of a file."""
    path = file_at_hand(error)
    said = f"{first_line(error)}" if str(error).strip() else "it ends too early"
    reader = _package(error)
    by = f" ({reader.removesuffix('_runtime').removesuffix('_core')})" if reader in READERS else ""
    name = "A file" if path is None else str(path)
    if path is not None and path.suffix == ".toml":
        remedy = "Mend the line and run again."
    elif path is not None and path.suffix == ".parquet":
        folder = path.parent.parent if path.parent.name in {"input", "target"} else path.parent
        remedy = f"`kit data check {folder}` says what is wrong with a data folder; copy or convert the file again."
    else:
        remedy = "It may be damaged, or of another kind than expected: copy it or make it again."
    return KitError(f"{name} cannot be read: {said}{by}.", remedy)


def _full(number: int | None, path: Path) -> KitError:
    """No more can be written. What is free now says little: what was begun has been removed meanwhile. So it is left out where it
    would contradict."""
    place = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    usage = shutil.disk_usage(place)
    where = f"the file system at {_mount(place)}"
    if number == errno.EFBIG and (limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) != resource.RLIM_INFINITY:
        room = f"`ulimit -f` allows {limit / 2**20:,.2f} MiB in a file"
    elif number == errno.ENOSPC and usage.free <= usage.total * NEARLY_FULL:
        room = f"{usage.free / 2**20:,.1f} of {usage.total / 2**20:,.0f} MiB are free on {where}"
    else:
        room = f"on {where}, of {usage.total / 2**20:,.0f} MiB; what was begun is removed again"
    return KitError(f"{FULL[number or errno.ENOSPC]}: {path} could not be written ({room}).", ROOM)


def _mount(path: Path | None) -> Path:
    """Where the file system that holds `path` begins."""
    whole = (path or Path()).absolute()
    return next((place for place in (whole, *whole.parents) if os.path.ismount(place)), Path("/"))


def _first_file(path: Path | None) -> str:
    """The part of a path that is a file, or the path."""
    if path is None:
        return "A file"
    above = (path, *path.parents)
    parts = [place for place in above if os.access(place, os.F_OK) and not os.access(f"{place}/.", os.F_OK)]
    return str(parts[-1] if parts else path)


def _named(error: BaseException) -> str:
    path = file_at_hand(error)
    return "A file" if path is None else str(path)


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _from(error: BaseException, modules: tuple[str, ...]) -> bool:
    """Whether an error was raised in one of these modules."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    name = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _ours(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The kit's own functions in a traceback, the outermost first, and their lines."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).startswith("kit.") and "/cli/net" not in frame.f_code.co_filename:
            yield frame, line


def _innermost_of_ours(error: BaseException) -> tuple[FrameType | None, int]:
    return next(reversed(list(_ours(error))), (None, 0))
