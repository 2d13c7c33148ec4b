"""Converts a folder in DAVIS's layout to a dataset folder, one class an object.

JPEGImages/480p/SEQ/00000.jpg and Annotations/480p/SEQ/00000.png, with 0/255 masks
(DAVIS 2016; the class is SEQ) or indices (DAVIS 2017; classes SEQ_1, SEQ_2, ..., other
objects are background). A class holds the frames that show it in the order of time, so
an episode of a class is one of frames of the same video.

Writes one shard a class, dataset.json, and report.csv, which names each file that
was changed or refused and why. Exit status: 0, or 1 if a sequence that was asked for
has too few usable frames, or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.sources.davis import RESOLUTION, davis_jobs, find_sequences
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--davis", required=True, type=Path, help="folder in DAVIS's layout")
    add("--resolution", default=RESOLUTION, help="folder of a resolution (%(default)s)")
    add("--split", default="", help="list in ImageSets to keep to, e.g. 2017/train")
    add("--sequences", help="sequences to keep to, joined by commas")
    add_conversion_arguments(parser, input_dir=False)
    args = parser.parse_args(argv)
    # Not above: worker processes import this file and need no TensorFlow.
    from efficientlab_tf.data.convert import convert, summarize

    sequences = find_sequences(
        args.davis,
        resolution=args.resolution,
        split=args.split,
        names=args.sequences.split(",") if args.sequences else (),
    )
    jobs = davis_jobs(sequences)
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
