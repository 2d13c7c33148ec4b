"""Learns what classifiers of training classes have in common, see `automatic/prior.py`.

    python tools/learn_prior.py --data DIR --classes FILE [--data DIR --classes FILE]

DIR holds a folder a class, with pictures 1.jpg and masks 1.png; FILE names a class a
line. Writes efficientlab_tf/models/weights/efficientnet_lite0_prior.npz, or --output.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.own_pictures import read
from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.automatic.linear import Cells, Linear
from efficientlab_tf.automatic.prior import FILE, learn
from efficientlab_tf.automatic.reading import STAGES, reader

SIDE, MOST = 256, 16
"""Pixels that pictures are read at, and how many of a class."""


def classifier(folder: Path) -> np.ndarray:
    """The weights, [F], of a classifier of a class, of all its pictures."""
    stems = sorted(path.stem for path in folder.glob("*.jpg"))[:MOST]
    cells = Cells(len(stems), 1, SIDE, 0)
    for stem in stems:
        image, mask = read(folder, stem)
        cells.add([reader()(image, SIDE)], mask)
    kind = Linear(STAGES, strength=0.4)
    return cells.fit(kind, range(len(stems)), reader(), 0).kernel[:, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--classes", type=Path, action="append", required=True)
    parser.add_argument("--output", type=Path, default=FILE)
    args = parser.parse_args()
    found = []
    for data, file in zip(args.data, args.classes, strict=True):
        names = file.read_text(encoding="utf-8").split()
        found.append(np.stack([classifier(data / n) for n in tqdm(names, data.name)]))
    basis = learn(found)
    np.savez_compressed(args.output, basis=basis)
    print(f"{args.output}: {len(basis)} features, {basis.shape[1]} directions")


if __name__ == "__main__":
    main()
