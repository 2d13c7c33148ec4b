"""Work on one thing while threads already read the next, and still write the last."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    most: int,
    weight: Callable[[Result], float] = lambda result: 0.0,
    heaviest: float = math.inf,
) -> Generator[Result, None, None]:
    """Yields function(item) of each item in order; threads compute some in advance.

    Two of these in a row, with other work between them, are a pipeline. Nothing is
    begun before the first result is asked for. Whoever does not ask for all closes it:
    that waits for what is being computed, and begins nothing more.

    Args:
      function: runs in the threads. What it raises is raised here, in its place.
      items: taken in the thread that asks for results.
      threads: how many.
      most: items that are waiting to be computed or asked for, at most.
      weight: of a result.
      heaviest: what waits may weigh together, or be a single item. What is not
        computed yet counts as the last that was.
    """
    waiting: deque[Future[Result]] = deque()
    last = heaviest / threads

    def is_full() -> bool:
        nonlocal last
        total = last
        for future in waiting:
            if future.done() and not future.exception():
                last = weight(future.result())
            total += last
        return len(waiting) >= most or total > heaviest

    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while waiting and is_full():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
