"""Measures the package: python tools/benchmark.py NAME [options]

meta_step     a FOMAML meta-step beside the isolated passes that it consists of
epoch         weights, and minutes an epoch, of the training of a flagfile
second_order  what exact second derivatives cost, beside an unrolled tape and
              learn2learn
episodes      episodes per second, and the time until the first one
frozen        meta-steps behind a frozen encoder beside those of the whole network
fine_tuning   adapting beside the same number of steps of Keras's own `fit`
authors       a FOMAML meta-step beside the authors' own code in TensorFlow 1.15
guidance      how soon masks follow a click, with a guided network
many_pictures pictures a second of `segment`, beside a loop in one thread
workers       two workers of one thread each, beside one of one thread
scaling       a simulation: meta-steps per second on 1 to 1,024 GPUs
table         those that take minutes, into benchmarks/README.md

Every figure is a ratio or a median within one run. `NAME --help` lists options.
"""

import importlib
import sys
from pathlib import Path

from efficientlab_tf.errors import run_command

BENCHMARKS = (
    *("meta_step", "epoch", "second_order", "episodes", "frozen", "guidance"),
    *("authors", "fine_tuning", "many_pictures", "workers", "scaling", "table"),
)


def main(argv: list[str]) -> int:
    """Runs the benchmark that the first argument names."""
    if not argv or argv[0] not in BENCHMARKS:
        print(__doc__)
        return 0 if argv in ([], ["--help"], ["-h"]) else 2
    sys.path.insert(0, str(Path(__file__).parents[1]))
    # These measure child processes and need no TensorFlow in this one.
    if argv[0] not in ("authors", "second_order", "table", "workers"):
        import efficientlab_tf.quiet  # noqa: F401
    return importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
