"""Writes a TensorFlow 1 checkpoint of EfficientLab's authors as a .keras model.

  python tools/import_efficientlab_checkpoint.py \
      --checkpoint EfficientLab-6-3_FOMAML-star_checkpoint/model.ckpt \
      --output efficientlab_6_3_fomaml_star.keras

The backbone, the decoder and its stages are read off the checkpoint.
"""

import argparse
from pathlib import Path

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.models import efficientlab, import_tf1


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", required=True, help="path of the checkpoint without .index"
    )
    parser.add_argument("--output", required=True, help="the .keras file to write")
    parser.add_argument(
        "--image_size", type=int, default=224, help="height and width of the images"
    )
    parser.add_argument(
        "--rsd_stages",
        type=int,
        nargs="+",
        help="the decoder's stages, for an old checkpoint whose scopes have no number "
        "and whose decoder is not at stage 3",
    )
    parser.add_argument(
        "--no_residual",
        action="store_true",
        help="the network was trained without residual connections in the decoder",
    )
    options = parser.parse_args(arguments)
    output = Path(options.output)
    if output.suffix != ".keras":
        raise UserError(f"--output: expected a .keras file, received {output}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output: there is no folder {output.parent}; make it first")
    architecture = import_tf1.checkpoint_architecture(options.checkpoint)
    if options.rsd_stages:
        architecture["rsd_stages"] = tuple(options.rsd_stages)
    model = efficientlab(
        image_size=options.image_size,
        residual=not options.no_residual,
        **architecture,
    )
    import_tf1.load_efficientlab_checkpoint(model, options.checkpoint)
    model.save(output)
    stages = ",".join(str(stage) for stage in architecture.get("rsd_stages", ()))
    print(
        f"{output}: {architecture['backbone']}, decoder {architecture['decoder']} "
        f"{stages}, {model.count_params():,} weights"
    )


if __name__ == "__main__":
    run_command(main)
