"""A FOMAML meta-step beside that of EfficientLab's authors' code in TensorFlow 1.15.

Both take the inner steps and the one on the tail of the same number of pictures with
EfficientLab-B0, without augmentation, one task a meta-step, in turns. The authors' code
is at github.com/ml4ai/mliis; it needs a Python of its own:

    python3.7 -m venv tf1
    tf1/bin/pip install "tensorflow==1.15.5" "protobuf<3.21" "numpy<1.19" \\
        "scikit-learn<0.23" "scikit-optimize<0.9" "pandas<1.2" matplotlib pillow
    python tools/benchmark.py authors --python tf1/bin/python --authors mliis
"""

import argparse
import os
from pathlib import Path

from benchmarks.comparison import gib, in_turns, medians
from benchmarks.probe import Probe
from efficientlab_tf.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, and returns the exit status.

    Args:
      argv: command line arguments, see `--help`.

    Raises:
      UserError: there is no such Python or no such code.
    """
    parser = argparse.ArgumentParser(
        prog="authors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--python", required=True, help="of TensorFlow 1.15")
    add("--authors", type=Path, required=True, help="folder of the authors' code")
    add("--image_size", type=int, default=224)
    add("--shots", type=int, default=5)
    add("--queries", type=int, default=5, help="the tail, of the last inner step")
    add("--inner_steps", type=int, default=5)
    add("--inner_batch", type=int, default=8)
    add("--repeats", type=int, default=5, help="pairs behind the median")
    options = parser.parse_args(argv)
    if not os.access(options.python, os.X_OK):
        raise UserError(f"--python: expected a program, received {options.python}")
    if not (options.authors / "models" / "efficientlab.py").is_file():
        raise UserError(
            f"--authors: {options.authors} has no models/efficientlab.py; give a copy "
            "of github.com/ml4ai/mliis"
        )

    both = {name: getattr(options, name) for name in ("shots", "queries")}
    inner = {name: getattr(options, name) for name in ("inner_steps", "inner_batch")}
    size = {"image_size": options.image_size}
    theirs = {"authors": str(options.authors.resolve()), **size, **both, **inner}
    fixed = {"learner": "fomaml", "inner_learning_rate": 1e-3, "augment_rate": 0.0}
    ours = {
        "step": "meta_step",
        "network": ["efficientlab", {"backbone": "EfficientNetB0", **size}],
        "learner": {**fixed, **inner},
        **both,
    }
    with (
        Probe("tensorflow_probe", ours) as a,
        Probe("authors_probe", theirs, options.python) as b,
    ):
        pairs = in_turns(a, b, options.repeats, "authors")
        version = b.started.facts["tensorflow"]
    *times, ratio = medians(pairs)
    print(
        f"FOMAML meta-step, EfficientLab-B0, {options.image_size} px, {options.shots} "
        f"shots, {options.inner_steps} inner steps of {options.inner_batch} pictures; "
        f"medians of {options.repeats} pairs\n"
        f"  {'':25} a step  CPU time  start and first step    peak"
    )
    names = "this package", f"authors, TensorFlow {version}"
    for name, time, probe, step in zip(names, times, (a, b), pairs[-1], strict=True):
        begin = probe.started.trace.wall + probe.started.first.wall
        print(
            f"  {name:25} {time.wall:5.2f} s {time.cpu:7.2f} s {begin:19.1f} s "
            f"{gib(step.peak):>9}"
        )
    print(f"  ratio {ratio.wall:.2f}, of CPU time {ratio.cpu:.2f}")
    return 0
