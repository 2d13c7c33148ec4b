"""Measures the package: `python tools/benchmark.py NAME [options]`.

meta_step   a FOMAML meta-step beside the isolated passes that it consists of
episodes    episodes per second, and the time until the first one

Every figure is a ratio or a median within one run. `NAME --help` lists options.
"""

import sys

from efficientlab_tf.benchmarks import episodes, meta_step

BENCHMARKS = {"meta_step": meta_step.main, "episodes": episodes.main}


def main(argv: list[str]) -> int:
    """Runs the benchmark that the first argument names."""
    if not argv or argv[0] not in BENCHMARKS:
        print(__doc__)
        return 0 if argv in ([], ["--help"], ["-h"]) else 2
    return BENCHMARKS[argv[0]](argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
