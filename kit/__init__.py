"""Raw event logs in at one end, one vector per client out at the other, and six probes to say how good they are.

    >>> import kit
    >>> data = kit.open_data("data/small")
    >>> submission = kit.submit("pipelines/stats.toml", data)
    >>> kit.score(submission, data).sum

See `kit.door` for each function.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.door import History, compare, embed, load_submission, open_data, score, submit

__version__ = "0.1.0"

__all__ = ["History", "compare", "embed", "load_submission", "open_data", "score", "submit"]

# Torch asks for huge pages then, where the system grants them on request (Linux): the probes and trainings stream through
# gigabytes of weights and moments, and spend less time on looking up addresses. Torch reads it once, so before its import.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """A name of the Python door, imported now: `import kit` alone stays quick."""
    if name not in __all__:
        raise AttributeError(f"module 'kit' has no attribute {name!r}")
    return getattr(import_module("kit.door"), name)


def __dir__() -> list[str]:
    """What completion offers."""
    return [*__all__, "__version__"]
