"""Flat arrays on disk: .npy files that grow, are mapped into memory, and are read in blocks."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.store import write_atomically

AnyNumber = TypeVar("AnyNumber", bound=np.generic)
SMALL_FILE: Final = 4096
"""Bytes up to which a file is read rather than mapped (an empty one cannot be mapped)."""
DAMAGED: Final = (SyntaxError, TokenError, TypeError, KeyError, OverflowError, MemoryError)
"""What NumPy ends in where the header of a file is damaged, beside ValueError."""
NUMERIC: Final = "biufO"
"""Kinds of arrays that may be lists of numbers: bool, whole, unsigned, float, Python objects."""
BLOCK: Final = 4_000_000
"""Elements read at a time where a pass goes over all of them."""


def blocks(length: int, size: int | None = None) -> Iterator[slice]:
    """Consecutive slices of at most `size` (BLOCK if None) that cover [0, length)."""
    size = size or BLOCK
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))


def read_array(path: Path, *, mapped: bool = True) -> NDArray[Any]:
    """A .npy file, mapped into memory read-only unless it is small.

    Raises:
        ValueError: it is no .npy file; also OSError and EOFError, as NumPy raises them.
    """
    mode: Literal["r"] | None = "r" if mapped and path.stat().st_size > SMALL_FILE else None
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if not isinstance(found, np.ndarray):
        raise ValueError("it is an archive of several arrays, .npz")
    return np.asarray(found)  # a plain view: NumPy's own class for mapped arrays makes every small access slower


class _Numbers(pickle.Unpickler):
    """Object arrays of the official folder need pickle; this one builds NumPy numbers and arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        allowed = {"dtype", "ndarray", "scalar", "_reconstruct", "_frombuffer"}
        if module.split(".", maxsplit=1)[0] == "numpy" and name in allowed:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a list of numbers")


def read_numbers(path: Path) -> NDArray[Any]:
    """A small .npy file, also if it holds Python numbers, without running code that it may carry.

    Raises:
        ValueError: it is something else; also OSError and EOFError, as NumPy raises them.
    """
    data = path.read_bytes()
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in NUMERIC:
            raise TypeError(f"it holds {dtype} instead of numbers")
        if not dtype.hasobject:
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        return np.asarray(_Numbers(stream).load()).reshape(shape)
    except (*DAMAGED, pickle.UnpicklingError, AttributeError, IndexError) as error:
        raise ValueError(f"it is damaged: {error}") from error


def mapped_file(array: NDArray[Any]) -> Path | None:
    """The .npy file that an array is the whole of, as `read_array` maps it; None if it is in memory, or a part of a file."""
    whole: Any = array
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    if not isinstance(whole, np.memmap) or not whole.filename or not str(whole.filename).endswith(".npy"):
        return None
    alike = (array.shape, array.dtype, array.strides) == (whole.shape, whole.dtype, whole.strides)
    return Path(str(whole.filename)) if alike and array.ctypes.data == whole.ctypes.data else None


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Each as <name>.npy."""
    for name, array in arrays.items():
        write_atomically(folder / f"{name}.npy", partial(_write, array))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file that the kit wrote, in memory.

    Raises:
        KitError: it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, *DAMAGED) as error:
        raise KitError(
            f"{path} cannot be read ({error}).", "Build it again: `kit submit RECIPE --data DIR`."
        ) from error


def digest_of(*arrays: NDArray[Any]) -> str:
    """32 hex digits of arrays' bytes, types and shapes."""
    hasher = hashlib.blake2b(digest_size=16)
    for array in arrays:
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def where(column: NDArray[AnyNumber], holds: Callable[[NDArray[AnyNumber]], NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Places at which a long, possibly mapped column fulfils a condition, ascending: read in blocks."""
    parts = [np.flatnonzero(holds(column[at])) + at.start for at in blocks(len(column))]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


class Growing:
    """A one-dimensional .npy file that grows: the header, which leaves room for any length, is written again at the end.

    Args:
        path: the file.
        dtype: of its elements.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0
        self.stream: BinaryIO = path.open("wb")
        self.header = self._header()

    def append(self, values: NDArray[Any]) -> None:
        """Add values to the end."""
        self.stream.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.length += len(values)

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None and self._header() != self.header:
            raise ValueError(f"the header of {self.path.name} changed its size")  # NumPy pads it for 21 digits
        self.stream.close()

    def _header(self) -> int:
        self.stream.seek(0)
        form = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.stream, form)
        return self.stream.tell()


def _write(array: NDArray[np.generic], path: Path) -> None:
    with path.open("wb") as stream:  # np.save would append .npy to the temporary name
        np.save(stream, array)
