"""Converts the shards that EfficientLab's authors publish to a dataset folder.

INPUT_DIR holds one CLASS.tfrecord.gzip a class, with raw pixels. They are stored
as PNG, so nothing is lost. Exit status: 0, or 1 if a class has too few usable
examples (it is named and left out; all others are written), or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.convert import convert, summarize
from efficientlab_tf.data.sources.mliis import list_shards, read_mliis
from efficientlab_tf.data.tool_arguments import add_conversion_arguments
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_arguments(parser, cleaning=False)
    args = parser.parse_args(argv)
    shards = list_shards(Path(args.input_dir))
    conversion = convert(
        read_mliis(shards),
        list(shards),
        args.output_dir,
        splits=args.splits,
        min_examples=args.min_examples,
        overwrite=args.overwrite,
    )
    return summarize(conversion)


if __name__ == "__main__":
    run_command(main)
