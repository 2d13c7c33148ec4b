"""What the conversion tools share: arguments, and the work of those with folds."""

import argparse
import os
from collections.abc import Callable

from efficientlab_tf.data.cleaning import CleaningOptions
from efficientlab_tf.data.folds import FoldPlan
from efficientlab_tf.data.sources.folded import FoldedSource
from efficientlab_tf.data.sources.jobs import read_classes


def add_conversion_arguments(
    parser: argparse.ArgumentParser,
    *,
    cleaning: bool = True,
    input_dir: bool = True,
    class_lists: bool = True,
) -> None:
    """Adds the arguments of every conversion.

    Args:
      parser: the tool's parser.
      cleaning: whether pictures are read from files, in parallel, and so can be
        resized.
      input_dir: whether one folder is converted.
      class_lists: whether splits and the least size of a class can be chosen.
    """
    add = parser.add_argument
    if input_dir:
        add("--input_dir", required=True, help="folder to convert")
    add("--output_dir", required=True, help="dataset folder to write")
    if class_lists:
        add(
            "--splits",
            help="class lists: fss1000, fss1000_520, fss1000_700, fpk, icons, or files "
            "as train=FILE,val=FILE,test=FILE",
        )
        add(
            "--min_examples",
            "--min_pairs",
            type=positive_int,
            default=2,
            help="classes with fewer usable examples are left out (%(default)s)",
        )
    add("--overwrite", action="store_true", help="replace a dataset already there")
    if cleaning:
        add(
            "--image_size",
            type=positive_int,
            help="resize all examples to squares of this side (keep their sizes)",
        )
        add(
            "--workers",
            type=positive_int,
            default=os.cpu_count() or 1,
            help="parallel processes (%(default)s)",
        )


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of every conversion to a benchmark with folds."""
    add_conversion_arguments(parser, input_dir=False, class_lists=False)
    add = parser.add_argument
    add(
        "--pairs",
        type=positive_int,
        default=1000,
        help="test pairs to draw for each fold (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of the test pairs (%(default)s)")


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def convert_folds(args: argparse.Namespace, read: Callable[[], FoldedSource]) -> int:
    """Converts a benchmark with folds.

    Args:
      args: of `add_fold_arguments`.
      read: makes the source.

    Returns:
      The exit status.

    Raises:
      UserError: bad input.
    """
    # Not above: worker processes import the tools and need no TensorFlow.
    from efficientlab_tf.data.convert import check_output, convert, summarize

    check_output(args.output_dir, args.overwrite)
    source = read()
    for note in source.notes:
        print(note)
    conversion = convert(
        read_classes(source.jobs, CleaningOptions(args.image_size), args.workers),
        source.names,
        args.output_dir,
        overwrite=args.overwrite,
        folds=FoldPlan(source.folds, args.pairs, args.seed),
        rows=source.rows,
    )
    return summarize(conversion)
