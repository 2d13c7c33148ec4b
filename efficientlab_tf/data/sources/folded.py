"""What readers of sets with folds return, see `efficientlab_tf.data.folds`."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from efficientlab_tf.data.example import LEFT_OUT, ReportRow
from efficientlab_tf.data.folds import Fold
from efficientlab_tf.data.sources.jobs import PART, Job

MIN_EXAMPLES = 2
"""Pictures that an entry needs: a query and its support."""

Item = TypeVar("Item")


class FoldedSource(NamedTuple):
    """A set of pictures with folds.

    Attributes:
      jobs: the entries to read; a large entry has several jobs.
      names: of the entries, in the order of the jobs.
      folds: the splits of each fold; they also list entries without pictures.
      rows: the report on files that belong to no entry, and on entries left out.
      notes: lines to print before the conversion.
    """

    jobs: list[Job]
    names: list[str]
    folds: tuple[Fold, ...]
    rows: list[ReportRow]
    notes: list[str]


def folded_source(
    pictures: Mapping[str, Sequence[Item]],
    job: Callable[[str, list[Item], list[ReportRow]], Job],
    folds: tuple[Fold, ...],
    class_rows: Mapping[str, list[ReportRow]],
    rows: list[ReportRow],
    notes: list[str],
) -> FoldedSource:
    """Makes the jobs of all entries that have enough pictures.

    Args:
      pictures: entry to its pictures, in the order to be stored.
      job: makes a job from an entry's name, some of its pictures and report rows.
      folds, notes: see `FoldedSource`.
      class_rows: entry to the report on its files.
      rows: the report on files that belong to no entry.
    """
    jobs, names, rows, notes = [], [], list(rows), list(notes)
    for entry, items in pictures.items():
        if len(items) < MIN_EXAMPLES:
            reason = (
                f"pictures of the class: {len(items)}, at least {MIN_EXAMPLES} needed"
            )
            rows += [*class_rows.get(entry, ()), ReportRow(entry, "", LEFT_OUT, reason)]
            notes.append(f"left out: {entry}, {reason}")
            continue
        names.append(entry)
        for start in range(0, len(items), PART):
            first_rows = list(class_rows.get(entry, ())) if start == 0 else []
            jobs.append(job(entry, list(items[start : start + PART]), first_rows))
    return FoldedSource(jobs, names, folds, rows, notes)
