"""What a conversion did, in lines to print."""

from efficientlab_tf.data.convert import REPORT, Conversion
from efficientlab_tf.data.example import CHANGED, LEFT_OUT, REFUSED, ReportRow
from efficientlab_tf.data.fold_lists import MAX_SHOTS
from efficientlab_tf.data.folds import TEST
from efficientlab_tf.data.manifest import FILENAME

MAX_LINES = 20
"""Of refused files; the report has all."""


def refused(conversion: Conversion) -> list[ReportRow]:
    """The rows of files that were not taken."""
    return [row for row in conversion.rows if row.action == REFUSED]


def errors(conversion: Conversion) -> list[str]:
    """Names refused files, `MAX_LINES` at most, and classes with too few examples."""
    rows, report = refused(conversion), conversion.manifest.directory / REPORT
    lines = [
        f"refused: {row.class_name}/{row.file}: {row.reason}"
        for row in rows[:MAX_LINES]
    ]
    if len(rows) > MAX_LINES:
        lines.append(f"refused: {len(rows) - MAX_LINES} more, see {report}")
    lines += [
        f"error: class {name} left out: {count} usable examples are too few; "
        f"{report} lists what was refused"
        for name, count in conversion.too_few.items()
    ]
    return lines


def summary(conversion: Conversion) -> list[str]:
    """Classes and examples of each split and fold, and how many files were changed."""
    manifest, rows, _, pair_counts = conversion
    examples = sum(entry.count for entry in manifest.classes.values())
    classes = f"{len(manifest.classes)} classes, {examples} examples"
    lines = [f"{manifest.directory}: {classes}"]
    if not manifest.classes:
        lines.append(f"no class is usable, so no {FILENAME} was written")
    for split, names in manifest.splits.items():
        lines.append(f"  {split}: {len(names)} classes")
    outside = len(manifest.classes) - sum(map(len, manifest.splits.values()))
    if manifest.splits and outside:
        lines.append(f"  in no split: {outside} classes")
    for number, fold in enumerate(manifest.folds):
        sizes = ", ".join(f"{split} {len(names)}" for split, names in fold.items())
        pairs = pair_counts[number]
        lines.append(f"  fold{number}: {sizes} classes; {pairs} test pairs")
        for name in fold[TEST]:
            count = manifest.classes[name].count
            if count <= MAX_SHOTS:
                shots = f"at most {count - 1}-shot"
                lines.append(f"    {name} has {count} pictures: {shots}")
    changed = sum(row.action == CHANGED for row in rows)
    left_out = sum(row.action == LEFT_OUT for row in rows)
    more = f", {left_out} left out" if left_out else ""
    counts = f"{changed} files changed, {len(refused(conversion))} refused{more}"
    return [*lines, f"{counts}; why: {manifest.directory / REPORT}"]
