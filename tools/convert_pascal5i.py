"""Converts PASCAL VOC 2012, and SBD with it, to PASCAL-5i: one folder for all folds.

Entries are train-CLASS (VOC's train.txt, and SBD without VOC's val.txt) and val-CLASS
(VOC's val.txt); in each the class is 1, all other classes are background and void stays
unknown. --splits=fold0 to fold3 of every command chooses a fold. pairs-fold0.csv to
pairs-fold3.csv are the test pairs, drawn as in Shaban et al. (2017).

Writes one shard an entry, dataset.json, the lists, and report.csv, which names each
file that was changed, refused or left out, and why. A class with less than two pictures
is left out. Exit status: 0, or 1 if files that cannot be used leave a class less than
two pictures, or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.sources.pascal5i import pascal5i
from efficientlab_tf.data.tool_arguments import add_fold_arguments, convert_folds
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--voc", type=Path, required=True, help="VOC2012's folder, with JPEGImages")
    add(
        "--sbd", type=Path, help="SBD's folder, benchmark_RELEASE/dataset (train on it)"
    )
    add_fold_arguments(parser)
    args = parser.parse_args(argv)
    return convert_folds(args, lambda: pascal5i(args.voc, args.sbd))


if __name__ == "__main__":
    run_command(main)
