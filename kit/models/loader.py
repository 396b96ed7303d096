"""Batches made ahead, so that a device does not wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(thunks: Iterable[Callable[[], T]], count: int) -> Generator[T, None, None]:
    """What the thunks return, in their order, with up to `count` of them called beforehand by a thread; 0 = none.

    Batches are functions of their number alone, so the same ones come whatever the count. An error in a thunk is raised where
    its batch is due.
    """
    if count == 0:
        for thunk in thunks:
            yield thunk()
        return
    source = iter(thunks)
    with ThreadPoolExecutor(1, thread_name_prefix="kit-batches") as pool:
        waiting: deque[Future[T]] = deque(pool.submit(thunk) for thunk in islice(source, count))
        try:
            while waiting:
                made = waiting.popleft().result()
                waiting.extend(pool.submit(thunk) for thunk in islice(source, 1))
                yield made
        finally:
            for future in waiting:
                future.cancel()
