"""Cuts EfficientNet-Lite0's published ImageNet weights to those of the encoder.

  python tools/make_lite0_weights.py \
      --input efficientnet_lite0_imagenet_notop.npz \
      --output efficientlab_tf/models/weights/efficientnet_lite0_encoder.npz
"""

import argparse

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="npz of all layers")
    parser.add_argument("--output", required=True, help="npz to write")
    arguments = parser.parse_args()
    with np.load(arguments.input) as archive:
        encoder = {
            path: archive[path]
            for path in archive.files
            if path.startswith("stem_")
            or path[:6] in {f"block{i}" for i in range(1, 6)}
        }
    np.savez_compressed(arguments.output, **encoder)
    total = sum(value.size for value in encoder.values())
    print(f"{arguments.output}: {len(encoder)} arrays, {total:,} values")


if __name__ == "__main__":
    main()
