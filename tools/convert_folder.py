"""Converts your own pictures to a dataset folder.

INPUT_DIR/images and INPUT_DIR/masks hold one class; INPUT_DIR/CLASS/images and
INPUT_DIR/CLASS/masks hold several. A mask has its image's name (the type may
differ) and is bright on the object, dark elsewhere; with --index_masks its values
are 0 for background, 1..K for classes and 255 for unknown.

Writes one shard a class, dataset.json, and report.csv, which names each file that
was changed or refused and why. Exit status: 0, or 1 if a file was refused or a
class has too few usable examples (all others are written), or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.sources.folder import folder_jobs
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_arguments(parser)
    parser.add_argument(
        "--class_name", help="name of the one class (the name of INPUT_DIR)"
    )
    parser.add_argument(
        "--index_masks",
        action="store_true",
        help="masks hold indices: 0 background, 1..K classes, 255 unknown",
    )
    args = parser.parse_args(argv)
    # Not above: worker processes import this file and need no TensorFlow.
    from efficientlab_tf.data.convert import convert, summarize

    jobs = folder_jobs(Path(args.input_dir), args.class_name)
    options = CleaningOptions(args.image_size, args.index_masks)
    conversion = convert(
        read_classes(jobs, options, args.workers),
        [job.class_name for job in jobs],
        args.output_dir,
        splits=args.splits,
        min_examples=args.min_examples,
        overwrite=args.overwrite,
    )
    return summarize(conversion, strict=True)


if __name__ == "__main__":
    run_command(main)
