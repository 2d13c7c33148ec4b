"""What linear classifiers of many classes have in common, as a prior for a new one.

    min_w  w' Sigma^-1 w / 2 + C sum_i loss_i(w' f_i)
    Sigma = (1 - s) sum_d c_d mean_t( w_t w_t' / |w_t|^2 ) + s I        tr Sigma = C

t are the training classes of a dataset d, each with a classifier w_t of its own, c_d a
scale that makes the trace of the sum the number of channels. A new classifier is held
towards directions that told other things apart: empirical Bayes, the oldest way of
learning to learn. With Sigma = L L' and g = L' f it is the regularized regression that
it would be without: w = L v, w' f = v' g, and w' Sigma^-1 w = |v|^2.

Both signs of w count alike, so it says nothing of what is an object and what is not.
It is worth much with one labelled picture and little with three.
"""

import functools
from pathlib import Path

import numpy as np

from efficientlab_tf import models

FILE = Path(models.__file__).parent / "weights" / "efficientnet_lite0_prior.npz"
SHRINKAGE = 0.3
"""s."""
_KEPT = 0.995
"""Share of the trace that the written directions hold."""


def learn(classifiers: list[np.ndarray]) -> np.ndarray:
    """Learns the sum in Sigma from classifiers.

    Args:
      classifiers: of each dataset an array [t, F], the weights of its classes.

    Returns:
      float16 [F, r], B with B B' near the sum, of trace F.
    """
    total = 0.0
    for weights in classifiers:
        unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
        total = total + unit.T @ unit / len(unit)
    values, vectors = np.linalg.eigh(total * len(total) / np.trace(total))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = 1 + np.searchsorted(np.cumsum(values), _KEPT * values.sum())
    return (vectors[:, :kept] * np.sqrt(values[:kept])).astype(np.float16)


@functools.cache
def root(columns: tuple[int, ...]) -> np.ndarray:
    """The Cholesky factor L of Sigma of some of the features, float32 [n, n].

    Args:
      columns: their places in what the reader gives.
    """
    with np.load(FILE) as file:
        basis = file["basis"][list(columns)].astype(np.float64)
    sigma = (1 - SHRINKAGE) * basis @ basis.T + SHRINKAGE * np.eye(len(basis))
    return np.linalg.cholesky(sigma).astype(np.float32)
