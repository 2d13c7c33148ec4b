"""What wrong second derivatives do. Usage: tools/second_order_error.py NAME [options]

gradient    angle between the exact MAML meta-gradient and the wrong ones
run         short meta-trainings with the exact, the wrong and the first-order one

`NAME --help` lists options; docs/second_order.md has the results.
"""

import sys
from pathlib import Path

import efficientlab_tf.quiet  # noqa: F401
from efficientlab_tf.errors import run_command

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import second_order_error, second_order_error_run  # noqa: E402

COMMANDS = {"gradient": second_order_error.main, "run": second_order_error_run.main}


def main() -> int:
    """Runs what the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        print(__doc__)
        return 0 if name in ("--help", "-h") else 2
    return COMMANDS[name](sys.argv[2:])


if __name__ == "__main__":
    run_command(main)
