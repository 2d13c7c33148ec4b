"""Two probes beside each other: steps in turns, ratios, how far gradients differ."""

import functools
import statistics
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from benchmarks.probe import Probe, Spent, Step

progress = functools.partial(tqdm, leave=False, disable=None)
"""A bar that leaves nothing behind, and none where nobody looks."""


def in_turns(
    one: Probe, other: Probe, repeats: int, name: str
) -> list[tuple[Step, Step]]:
    """Returns pairs of steps; `name` is shown beside the progress."""
    return [(one.step(), other.step()) for _ in progress(range(repeats), desc=name)]


def medians(pairs: list[tuple[Step, Step]]) -> tuple[Spent, Spent, Spent]:
    """Returns each side's median times, and the medians of the ratios within pairs."""
    spent = [(a.spent, b.spent) for a, b in pairs]
    ratios = [ratio(a, b) for a, b in spent]
    one, other = zip(*spent, strict=True)
    return median(one), median(other), median(ratios)


def median(times: Iterable[Spent]) -> Spent:
    """The medians of clock time and of processor time, each by itself."""
    return Spent(*map(statistics.median, zip(*times, strict=True)))


def ratio(one: Spent, other: Spent) -> Spent:
    """`one` over `other`."""
    return Spent(one.wall / other.wall, one.cpu / other.cpu)


def difference(
    one: str, other: str, key: str = "gradient", norm: float | None = None
) -> float:
    """||a - b|| / ||b|| of the arrays in two files whose names begin with `key`.

    Args:
      one: .npz file with a.
      other: .npz file with b.
      key: beginning of names.
      norm: of all elements as one vector, see `np.linalg.norm`; None is Euclidean.

    Raises:
      RuntimeError: a and b do not have the same names.
    """
    with np.load(one) as a, np.load(other) as b:
        names = sorted(name for name in a.files if name.startswith(key))
        if names != sorted(name for name in b.files if name.startswith(key)):
            raise RuntimeError(f"{one} and {other} do not hold the same {key}")
        x, y = (
            np.concatenate([arrays[name].astype(np.float64).ravel() for name in names])
            for arrays in (a, b)
        )
    return float(np.linalg.norm(x - y, norm) / np.linalg.norm(y, norm))


def gib(count: int) -> str:
    """Bytes for a table."""
    return f"{count / 2**30:.2f} GiB"
