"""Converts a folder in PASCAL VOC's layout to a dataset folder, one class a task.

JPEGImages/NAME.jpg and SegmentationClass/NAME.png with class indices, 255 for void.
Each class gets the pictures that show it; all other classes become background.

Writes one shard a class, dataset.json, and report.csv, which names each file that
was changed or refused and why. Exit status: 0, or 1 if a class that was asked for
has too few usable examples, or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.sources.voc import VOC_CLASSES, read_labels, voc_jobs
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import UserError, run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_arguments(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        help='names of the indices, lines of "INDEX NAME" (the 20 of PASCAL VOC)',
    )
    parser.add_argument(
        "--image_set", help="list in ImageSets/Segmentation to keep to, e.g. trainval"
    )
    parser.add_argument("--classes", help="classes to keep to, joined by commas")
    args = parser.parse_args(argv)
    # Not above: worker processes import this file and need no TensorFlow.
    from efficientlab_tf.data.convert import convert, summarize

    jobs = voc_jobs(
        Path(args.input_dir),
        read_labels(args.labels) if args.labels else VOC_CLASSES,
        image_set=args.image_set,
        classes=args.classes.split(",") if args.classes else None,
    )
    if args.classes is None:
        rare = [job.class_name for job in jobs if len(job.files) < args.min_examples]
        jobs = [job for job in jobs if job.class_name not in rare]
        if rare:
            print(
                f"fewer than {args.min_examples} pictures, left out: {', '.join(rare)}"
            )
    if not jobs:
        raise UserError(
            f"no class of {args.input_dir} has {args.min_examples} pictures; lower "
            "--min_examples"
        )
    conversion = convert(
        read_classes(jobs, CleaningOptions(args.image_size), args.workers),
        [job.class_name for job in jobs],
        args.output_dir,
        splits=args.splits,
        min_examples=args.min_examples,
        overwrite=args.overwrite,
    )
    return summarize(conversion)


if __name__ == "__main__":
    run_command(main)
