"""Prints a dataset's counts and draws a contact sheet of examples and masks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.manifest import ALL, Manifest
from efficientlab_tf.errors import UserError, run_command


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
    # Not above: --help and mistakes need not wait for TensorFlow.
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.inspection import counts_table, example_sheet

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


if __name__ == "__main__":
    run_command(main)
