"""One random task as numpy arrays, the same for every framework."""

import numpy as np


def random_task(shots: int, queries: int, size: int) -> tuple[np.ndarray, ...]:
    """Returns noise with the shapes of an episode; times do not depend on the values.

    Returns:
      Support images and masks, query images and masks: uint8 [k, size, size, 3] in
      0..255 and uint8 [k, size, size] of 0 and 1. The same at every call.
    """
    rng = np.random.default_rng(0)
    task = []
    for count in (shots, queries):
        task.append(rng.integers(0, 256, (count, size, size, 3), np.uint8))
        task.append(rng.integers(0, 2, (count, size, size), np.uint8))
    return tuple(task)
