"""Lists of test pairs: which query is segmented from which support pictures.

Pairs are drawn at random (Shaban et al. 2017, section 5), once, at conversion, and
stored beside the shards, so that every method and every later run sees the same.
pairs-fold0.csv has the columns class, query and support_1 to support_5, which hold file
names without suffix. A k-shot test uses the first k support pictures.
"""

import csv
import random
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from efficientlab_tf.errors import UserError

MAX_SHOTS = 5


class PairRow(NamedTuple):
    """One test pair: a class without its entry's prefix, and pictures' names.

    The names have no suffix; there is at least one support picture.
    """

    class_name: str
    query: str
    support: tuple[str, ...]


def pairs_filename(fold: int) -> str:
    """Returns the name of a fold's list in its dataset's folder."""
    return f"pairs-fold{fold}.csv"


def draw_pairs(
    pictures: Mapping[str, Collection[str]], count: int, *, seed: int, fold: int
) -> list[PairRow]:
    """Draws test pairs as section 4.3 of Shaban et al. (2017) does.

    The query is drawn uniformly from all pictures that show a class, then the class
    uniformly from those that the query shows, then the support without replacement
    from the other pictures of the class: `MAX_SHOTS` of them, or all if fewer.

    Each row is a function of (seed, fold, the row's number, names and classes of the
    pictures), so a longer list begins with the shorter one.

    Args:
      pictures: class to its pictures' names; a class with a single picture is ignored.
      count: number of pairs; there are none if no class has two pictures.
      seed: of the draws.
      fold: number of the fold.
    """
    members = {
        name: sorted(pictures[name])
        for name in sorted(pictures)
        if len(set(pictures[name])) > 1
    }
    classes_of: dict[str, list[str]] = {}
    for name, stems in members.items():
        for stem in stems:
            classes_of.setdefault(stem, []).append(name)
    queries = sorted(classes_of)
    if not queries:
        return []
    rows = []
    for number in range(count):
        # Of `random`, only seeding by a string and `random()` are promised to stay as
        # they are in later versions of Python.
        draw = random.Random(f"{seed}/{fold}/{number}").random
        query = _take(queries, draw())
        class_name = _take(classes_of[query], draw())
        others = [stem for stem in members[class_name] if stem != query]
        support = []
        while others and len(support) < MAX_SHOTS:
            support.append(_take(others, draw()))
            others.remove(support[-1])
        rows.append(PairRow(class_name, query, tuple(support)))
    return rows


def write_pairs(path: Path, rows: Iterable[PairRow]) -> None:
    """Writes a list; a row with fewer support pictures gets empty cells."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_columns(MAX_SHOTS))
        for row in rows:
            empty = [""] * (MAX_SHOTS - len(row.support))
            writer.writerow([row.class_name, row.query, *row.support, *empty])


def read_pairs(path: Path) -> list[PairRow]:
    """Reads a list.

    Raises:
      UserError: the file cannot be read, or is not such a list.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot read the list of test pairs {path}: {reason}; convert the dataset "
            "again"
        ) from error
    header = lines[0] if lines else []
    if len(header) < 3 or header != _columns(len(header) - 2):
        raise UserError(
            f"{path}:1: expected the columns {','.join(_columns(MAX_SHOTS))}, received "
            f"{','.join(header)!r}"
        )
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        class_name, query, *support = cells if len(cells) > 1 else ("", "")
        while support and not support[-1]:
            support.pop()
        if len(cells) != len(header) or not all((class_name, query, support, *support)):
            raise UserError(
                f"{path}:{number}: expected a class, a query and at least one support "
                f"picture in {len(header)} cells, received {','.join(cells)!r}"
            )
        rows.append(PairRow(class_name, query, tuple(support)))
    return rows


def _take(items: list[str], draw: float) -> str:
    return items[int(draw * len(items))]


def _columns(supports: int) -> list[str]:
    numbers = range(1, supports + 1)
    return ["class", "query", *(f"support_{number}" for number in numbers)]
