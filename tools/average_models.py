"""Averages trained models, weight by weight.

    python tools/average_models.py runs/a runs/b --output mean.keras

For trainings that started from the same weights and went on from there in different
ways, such as with the encoder frozen and without: where they lie in one valley, their
mean keeps most of what each has learned (Wortsman et al. 2022, Model soups). The first
model's configuration is kept. `--half` rounds to half precision, which halves the file.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import efficientlab_tf.quiet  # noqa: F401  (before TensorFlow is imported)

# isort: split
import numpy as np

from efficientlab_tf.checkpoint.files import load_trained, save_keras
from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.errors import UserError, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Averages as the arguments say; returns the exit status.

    Raises:
      UserError: a model that cannot be read, or of another architecture.
    """
    parser = argparse.ArgumentParser(
        prog="average_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "models", nargs="+", help="shipped models' names, runs' folders or .keras files"
    )
    add("--output", type=Path, required=True, help="the .keras file to write")
    add("--image_size", type=int, help="side of the pictures, if not the first's")
    add("--half", action="store_true", help="round weights to half precision")
    args = parser.parse_args(argv)
    if args.output.suffix != ".keras":
        raise UserError(f"--output must be a .keras file, received {args.output}")
    loaded = [load_trained(path) for path in args.models]
    run = loaded[0].run
    if args.image_size:
        size = dataclasses.replace(run.model, image_size=args.image_size)
        run = dataclasses.replace(run, model=size)
    network = build_network(run.model)
    own = network.every_weight()
    total = [np.zeros(variable.shape) for variable in own]
    for path, one in zip(args.models, loaded, strict=True):
        if not network.matches(one.network):
            raise UserError(
                f"models must be of one architecture, {network.about}; received "
                f"{path}: {one.network.about}"
            )
        if one.weights.rates or one.guides:
            raise UserError(
                f"{path} learned its inner rates, or has adapted to pictures: neither "
                "has a mean here; give models without"
            )
        one.network.assign(one.weights)
        for part, variable in zip(total, one.network.every_weight(), strict=True):
            part += variable.numpy().astype(float) / len(loaded)
    for variable, mean in zip(own, total, strict=True):
        variable.assign(mean.astype(np.float16) if args.half else mean)
    save_keras(args.output, network, network.weights(), run)
    print(f"written: {args.output}")
    return 0


if __name__ == "__main__":
    run_command(main)
