"""Prints a dataset's counts and draws a contact sheet of examples and masks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from efficientlab_tf.data.manifest import ALL, Manifest
from efficientlab_tf.errors import UserError, run_command

CELL = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the dataset that the arguments name; returns the exit status.

    Raises:
      UserError: no such dataset or split, or the sheet cannot be written.
    """
    parser = argparse.ArgumentParser(prog="efficientlab inspect", description=__doc__)
    add = parser.add_argument
    add("dataset_dir", help="dataset folder, or sample:icons")
    add("--output", type=Path, help="contact sheet to write, a PNG file (none)")
    add("--split", default=ALL, help="split to draw (%(default)s)")
    add("--classes", type=int, default=12, help="rows (%(default)s)")
    add("--examples", type=int, default=8, help="columns (%(default)s)")
    args = parser.parse_args(argv)
    if min(args.classes, args.examples) < 1:
        parser.error("--classes and --examples must be at least 1")
    manifest = Manifest.load(args.dataset_dir)
    print(f"{manifest.name} ({manifest.directory})")
    print(counts_table(manifest))
    if args.output is not None:
        sheet = example_sheet(manifest, args.split, args.classes, args.examples)
        try:
            sheet.save(args.output, "PNG")
        except OSError as error:
            raise UserError(
                f"cannot write {args.output}: {error.strerror}; choose another place"
            ) from error
        print(f"contact sheet: {args.output}")
    return 0


def counts_table(manifest: Manifest) -> str:
    """Returns a table: classes, examples, and the fewest and most examples of a class.

    Its rows are the splits (also of each fold), the classes in no split, and all.
    """
    parts = dict(manifest.splits)
    for number, fold in enumerate(manifest.folds):
        parts |= {f"fold{number} {split}": names for split, names in fold.items()}
    in_splits = {name for names in parts.values() for name in names}
    parts |= {
        "no split": [name for name in manifest.classes if name not in in_splits],
        ALL: list(manifest.classes),
    }
    lines = [f"{'split':<12}{'classes':>8}{'examples':>10}{'fewest':>8}{'most':>8}"]
    for part, names in parts.items():
        if names:
            counts = [manifest.classes[name].count for name in names]
            lines.append(
                f"{part:<12}{len(counts):>8}{sum(counts):>10}"
                f"{min(counts):>8}{max(counts):>8}"
            )
    return "\n".join(lines)


def example_sheet(
    manifest: Manifest, split: str, max_classes: int, max_examples: int
) -> Image.Image:
    """Draws examples of classes that are spread evenly over a split, a row for each.

    `max_classes` and `max_examples` bound the rows and columns.

    Raises:
      UserError: no such split, or a shard cannot be read.
    """
    # Not above: counts, --help and mistakes need not wait for TensorFlow.
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.records import decode_example, read_shard
    from efficientlab_tf.episode import IGNORE
    from efficientlab_tf.pictures import contact_sheet, outline, overlay

    names = manifest.split(split)
    picks = np.linspace(0, len(names) - 1, min(max_classes, len(names))).round()
    rows = []
    captions = []
    for name in (names[int(pick)] for pick in picks):
        records = list(read_shard(manifest.shard_path(name)))
        row = []
        marked = []
        for record in records[:max_examples]:
            image, mask = (tensor.numpy() for tensor in decode_example(record, None))
            marked.append(np.mean((mask > 0) & (mask != IGNORE)))
            image, mask = _enlarge(image, mask)
            row.append(outline(overlay(image, mask, alpha=0.3), mask, width=1))
        rows.append(row)
        captions.append(
            f"{name}: {len(row)} of {len(records)} examples; the object covers "
            f"{100 * min(marked):.0f} to {100 * max(marked):.0f} % of the image"
        )
    return contact_sheet(rows, captions, cell=CELL)


def _enlarge(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # So that the outline stays one pixel wide.
    scale = CELL / max(mask.shape)
    size = tuple(max(round(side * scale), 1) for side in reversed(mask.shape))
    image = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    mask = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(mask)


if __name__ == "__main__":
    run_command(main)
