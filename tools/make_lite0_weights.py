"""Cuts EfficientNet-Lite0's published ImageNet weights to those of some stages.

  python tools/make_lite0_weights.py --input efficientnet_lite0_imagenet_notop.npz \
      --output efficientlab_tf/models/weights/efficientnet_lite0_encoder.npz
  python tools/make_lite0_weights.py --input efficientnet_lite0_imagenet_notop.npz \
      --output efficientlab_tf/models/weights/efficientnet_lite0_stages_7_8.npz \
      --stages 7 8 --float16_kernels

Stage 1 is the stem, stage s > 1 the blocks block{s-1}a, block{s-1}b, ...
"""

import argparse

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="npz of all layers")
    parser.add_argument("--output", required=True, help="npz to write")
    parser.add_argument(
        "--stages",
        nargs=2,
        type=int,
        default=(1, 6),
        metavar=("FIRST", "LAST"),
        help="first and last stage that the file is for (1 6)",
    )
    parser.add_argument(
        "--float16_kernels",
        action="store_true",
        help="round the convolutions' kernels; batch normalization stays float32",
    )
    arguments = parser.parse_args()
    first, last = arguments.stages
    stages = range(first, last + 1)
    prefixes = {"stem_" if stage == 1 else f"block{stage - 1}" for stage in stages}

    def rounded(value: np.ndarray) -> np.ndarray:
        half = arguments.float16_kernels and value.ndim == 4
        return value.astype(np.float16) if half else value

    with np.load(arguments.input) as archive:
        kept = {
            path: rounded(archive[path])
            for path in archive.files
            if any(path.startswith(prefix) for prefix in prefixes)
        }
    np.savez_compressed(arguments.output, **kept)
    total = sum(value.size for value in kept.values())
    print(f"{arguments.output}: {len(kept)} arrays, {total:,} values")


if __name__ == "__main__":
    main()
