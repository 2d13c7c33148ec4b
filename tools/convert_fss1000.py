"""Converts FSS-1000's folders (CLASS/1.jpg, CLASS/1.png) to a dataset folder.

Writes one shard a class, dataset.json, and report.csv, which names each file that
was changed or refused and why. Exit status: 0, or 1 if a class has too few usable
examples (it is named and left out; all others are written), or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.sources.fss1000 import fss1000_jobs
from efficientlab_tf.data.sources.jobs import read_classes
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_arguments(parser)
    args = parser.parse_args(argv)
    # Not above: worker processes import this file and need no TensorFlow.
    from efficientlab_tf.data.convert import convert, summarize

    jobs = fss1000_jobs(Path(args.input_dir))
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
