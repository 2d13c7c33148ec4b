"""Converts MS COCO to COCO-20i: one folder for all folds.

COCO's folder holds annotations/instances_trainYEAR.json, instances_valYEAR.json and
the pictures in trainYEAR and valYEAR (2014 or 2017). Entries are train-CLASS and
val-CLASS; in each the class's instances are 1, its crowd regions unknown and all other
classes background. --splits=fold0 to fold3 of every command chooses a fold.
pairs-fold0.csv to pairs-fold3.csv are the test pairs, drawn as PASCAL-5i's.

A picture is stored once for each class that it shows: give --image_size, or have three
times COCO's own size of free disk. Writes one shard an entry, dataset.json, the lists,
and report.csv, which names each file that was changed, refused or left out, and why. A
class with less than two pictures is left out. Exit status: 0, or 1 if files that cannot
be used leave a class less than two pictures, or 2 for bad arguments.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from efficientlab_tf.data.sources.coco20i import coco20i
from efficientlab_tf.data.tool_arguments import add_fold_arguments, convert_folds
from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--coco", type=Path, required=True, help="COCO's folder, with annotations")
    add("--year", help="2014 or 2017 (the one that is there)")
    add_fold_arguments(parser)
    args = parser.parse_args(argv)
    return convert_folds(args, lambda: coco20i(args.coco, args.year))


if __name__ == "__main__":
    run_command(main)
