"""Checks a dataset folder: counts, digests, and that every example can be decoded.

Prints one line for each fault, with the shard and the number of the record, counted
from 0. Exit status: 0 if there is no fault, 1 if there are some, 2 for bad arguments.
"""

import argparse
import sys
from collections.abc import Sequence

from efficientlab_tf.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Checks the dataset that the arguments name; returns the exit status.

    Raises:
      UserError: there is no dataset.
    """
    parser = argparse.ArgumentParser(
        prog="efficientlab verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset_dir", help="dataset folder, or sample:icons")
    args = parser.parse_args(argv)
    # Not above: --help and mistakes need not wait for TensorFlow.
    import efficientlab_tf.quiet  # noqa: F401
    from efficientlab_tf.data.verify import verify_dataset

    result = verify_dataset(args.dataset_dir)
    for fault in result.faults:
        print(f"fault: {fault}", file=sys.stderr)
    state = f"{len(result.faults)} faults" if result.faults else "OK"
    print(
        f"{state}: {args.dataset_dir}: {result.classes} classes, {result.examples} "
        f"examples, {result.bytes / 1e6:.1f} MB"
    )
    return 1 if result.faults else 0


if __name__ == "__main__":
    run_command(main)
