"""Linear classifiers of features: the candidates that cost next to nothing.

    min_(W, b)  |W|^2 / 2 + C sum_(i, l) w_il (-log p_l(f_i))     p = softmax(W f + b)
    w_il = m s_il^4 / ((K+1) sum_j s_jl^4)                        m = min(cells, 5120)

The sum is over the cells i of all support pictures and the labels l; s_il is the share
of label l in the known pixels of cell i. Cells on a border say little, because of the
fourth power, labels count alike, and a thing that fills no cell is still seen.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from efficientlab_tf.automatic.family import Family, Member, Probabilities
from efficientlab_tf.automatic.frame import shares, unframe
from efficientlab_tf.automatic.prior import root
from efficientlab_tf.automatic.reading import CELL, Read, Reader
from efficientlab_tf.automatic.task import MOST_MIRRORED, Task, judged_size
from efficientlab_tf.segmenters.baselines.support import one_thread
from efficientlab_tf.streaming import ahead, cores

MOST_ROWS = 8000
"""Cells that a classifier is fitted to, at most; of each label equally many."""
MOST_WEIGHT = 5120
MIRRORED_SIDE = 768
"""Larger pictures are not looked at mirrored, which would double the time."""
_LEAST_ROWS = 50
_SHARPNESS = 4
_LEAST = 0.25**_SHARPNESS


def _drawn(weights: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Cells that are mostly of a label: at most so many, drawn at random, in order.

    If there are none, the one that is most of it.
    """
    own = np.flatnonzero(weights > _LEAST)
    if not len(own) and weights.any():
        own = weights.argmax(keepdims=True)
    if len(own) > most:
        own = np.sort(rng.choice(own, most, replace=False))
    return own


@dataclasses.dataclass(frozen=True)
class Linear:
    """A kind of linear classifier.

    Attributes:
      stages: whose features it sees.
      strength: C, the inverse of the regularization.
      prior: whether its weights are held towards what many classes have in common,
        see `prior`.
    """

    stages: tuple[int, ...]
    strength: float = 3.0
    prior: bool = False

    @property
    def about(self) -> str:
        """What tells it from others."""
        learned = ", learned prior" if self.prior else ""
        stages = ", ".join(map(str, self.stages))
        return f"stages {stages}, C {self.strength:g}{learned}"


@dataclasses.dataclass(frozen=True)
class FittedLinear:
    """A linear classifier of one task.

    Attributes:
      kernel: float32 [C, K+1], over all features; zero where it sees none.
      bias: float32 [K+1]; of a label without any cell very low.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Maps features [h, w, C] to float32 [h, w, K+1]."""
        return softmax(features.astype(np.float32) @ self.kernel + self.bias, axis=-1)


class Cells:
    """The labelled cells of a support set at one size.

    Of each entry and label some are kept, drawn at random, so that many pictures need
    little memory.

    Args:
      entries: how many entries there will be.
      classes: K.
      side: that the pictures are read at.
      seed: decides which cells are kept.
    """

    def __init__(self, entries: int, classes: int, side: int, seed: int):
        self.features: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self._classes, self._side = classes, side
        self._most = max(_LEAST_ROWS, 2 * MOST_ROWS // ((classes + 1) * entries))
        self._rng = np.random.default_rng(seed)

    def add(self, read: Sequence[Read], mask: np.ndarray) -> None:
        """Takes an entry.

        Args:
          read: what was read of its picture, as it is and perhaps mirrored.
          mask: uint8 [H, W]; 0..K, 255 unknown.
        """
        seen = (mask, mask[:, ::-1])[: len(read)]
        share = [shares(one, self._classes, self._side, CELL) for one in seen]
        share = np.concatenate(share).reshape(-1, self._classes + 1)
        share /= np.maximum(share.sum(-1, keepdims=True), 1e-6)
        share **= _SHARPNESS
        kept = [_drawn(column, self._most, self._rng) for column in share.T]
        kept = np.unique(np.concatenate(kept))
        features = np.concatenate([one.features for one in read])
        self.features.append(features.reshape(len(share), -1)[kept])
        self.weights.append(share[kept])

    def fit(
        self, kind: Linear, chosen: Sequence[int], reader: Reader, seed: int
    ) -> FittedLinear:
        """Fits a classifier to some of the pictures; inside `_fitting`.

        Args:
          kind: what it sees, and its regularization.
          chosen: numbers of the pictures.
          reader: that read them.
          seed: decides which cells are taken, if there are more than `MOST_ROWS`.
        """
        columns = np.concatenate(
            [np.arange(reader.channels)[reader.places[s]] for s in kind.stages]
        )
        weights = np.concatenate([self.weights[i] for i in chosen])
        starts = np.cumsum([0] + [len(self.weights[i]) for i in chosen])
        labels = weights.shape[-1]
        rng = np.random.default_rng(seed)
        rows, y, w = [], [], []
        for label, column in enumerate(weights.T):
            own = _drawn(column, MOST_ROWS // labels, rng)
            rows.append(own)
            y.append(np.full(len(own), label))
            share = column[own]
            w.append(share / max(share.sum(), 1e-9))
        rows, y, w = map(np.concatenate, (rows, y, w))
        kernel = np.zeros([reader.channels, labels], np.float32)
        # Finite, so that it goes through any arithmetic; e^-30 is nothing.
        bias = np.full(labels, -30.0, np.float32)
        present = np.unique(y)
        if len(present) == 1:
            bias[present] = 0
            return FittedLinear(kernel, bias)
        features = np.empty([len(rows), len(columns)], np.float32)
        for i, first, end in zip(chosen, starts, starts[1:], strict=False):
            own = (rows >= first) & (rows < end)
            features[own] = self.features[i][rows[own] - first][:, columns]
        w *= min(len(weights), MOST_WEIGHT) / len(present)
        model = LogisticRegression(C=kind.strength, max_iter=100, tol=1e-4)
        turn = None
        if kind.prior:
            turn = root(tuple(columns))
            features = features @ turn
        model.fit(features, y, sample_weight=w)
        # Of two labels it scores the second alone.
        scored = model.classes_[-len(model.coef_) :]
        bias[model.classes_] = 0
        coefficients = model.coef_.T if turn is None else turn @ model.coef_.T
        kernel[np.ix_(columns, scored)] = coefficients
        bias[scored] = model.intercept_
        return FittedLinear(kernel, bias)


@contextlib.contextmanager
def _fitting():
    """What `Cells.fit` needs around it, as both are set for all threads at once.

    Each fit computes in one thread, so that its sums do not hang on how many there
    are; several may run at a time. A fit that has not quite converged is good enough.
    """
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


class LinearFamily(Family):
    """Linear classifiers of features that are read at one size.

    A picture is seen as it is and mirrored, to learn from and to segment. A family
    serves one task.

    Args:
      side: that pictures are read at, in pixels.
      kinds: the classifiers.
      reader: of the features.
    """

    def __init__(self, side: int, kinds: Sequence[Linear], reader: Reader):
        self.side, self.variants = side, tuple(kinds)
        self._reader = reader
        self._read: dict[int, tuple[Read, ...]] = {}
        self._known: Cells | None = None
        self._mirrors = side <= MIRRORED_SIDE

    def name(self, variant: Linear) -> str:
        """See `Family`."""
        return f"linear classifier, {variant.about}, {self.side} px"

    def held_out(self, task: Task) -> Iterator[dict[Linear, list[Probabilities]]]:
        """See `Family`."""
        cells = self._cells(task)

        def judge(fold: Sequence[int]) -> dict[Linear, list[Probabilities]]:
            found = {}
            for kind in self.variants:
                fitted = cells.fit(kind, task.others(fold), self._reader, task.seed)
                found[kind] = [self._judged(task, entry, fitted) for entry in fold]
            return found

        folds = ahead(judge, task.folds, threads=cores(), most=cores())
        with _fitting(), contextlib.closing(folds):
            yield from folds

    def fit(self, task: Task, weights: Mapping[Linear, float]) -> "LinearMember":
        """See `Family`."""
        cells, every = self._cells(task), range(len(task.entries))
        with _fitting():
            fitted = [cells.fit(k, every, self._reader, task.seed) for k in weights]
        tensors = (
            tf.constant(np.stack([one.kernel for one in fitted])),
            tf.constant(np.stack([one.bias for one in fitted])),
            tf.constant(list(weights.values()), tf.float32),
        )
        return LinearMember(self._reader, self.side, tensors)

    def _cells(self, task: Task) -> Cells:
        """The cells of all entries; what was read of judged ones is kept, too."""
        if self._known is None:
            kinds = len(task.entries), task.classes, self.side, task.seed
            self._known, judged = Cells(*kinds), set(task.judged)
            for number, entry in enumerate(task.entries):
                read = self._read.get(entry.picture) or self._pair(task, entry.picture)
                self._known.add(read, entry.mask)
                if number in judged:
                    self._read[entry.picture] = read
        return self._known

    def _pair(self, task: Task, picture: int) -> tuple[Read, ...]:
        image = task.pictures[picture]
        both = image, image[:, ::-1]
        if len(task.pictures) > MOST_MIRRORED or not self._mirrors:
            both = both[:1]
        count = len(both)
        read = ahead(
            lambda x: self._reader(x, self.side), both, threads=count, most=count
        )
        return tuple(read)

    def _judged(self, task: Task, entry: int, fitted: FittedLinear) -> Probabilities:
        read = self._read[task.entries[entry].picture]
        size = tf.constant(judged_size(task.entries[entry].mask.shape))
        found = 0
        for one, step in zip(read, (1, -1), strict=False):
            cells = fitted.probabilities(one.features)
            found += unframe(cells, one.inner, CELL, size).numpy()[:, ::step]
        return (found / len(read)).astype(np.float16)


class LinearMember(Member):
    """Linear classifiers of features that are read at one size, and their mean.

    Args:
      reader: of the features.
      side: that pictures are read at, in pixels.
      tensors: float32 [n, C, K+1], [n, K+1] and [n]: kernels, biases and weights.
    """

    def __init__(self, reader: Reader, side: int, tensors: tuple[tf.Tensor, ...]):
        self.reader, self.side, self.tensors = reader, side, tensors
        self.variables = [variable.value for variable in reader.model.variables]
        self.about = f"{len(tensors[2])} linear classifier(s) at {side} pixels"

    def probabilities(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        """See `Member`."""
        kernels, biases, weights = tensors
        size, found = tf.shape(image)[:2], 0.0
        views = (False, True) if self.side <= MIRRORED_SIDE else (False,)
        for mirror in views:
            seen = image[:, ::-1] if mirror else image
            read = self.reader.graph(seen, self.side)
            scores = tf.einsum("hwc,nck->nhwk", read.features, kernels)
            scores = tf.nn.softmax(scores + biases[:, tf.newaxis, tf.newaxis])
            cells = tf.einsum("n,nhwk->hwk", weights, scores) / len(views)
            pixels = unframe(cells, read.inner, CELL, size)
            found += pixels[:, ::-1] if mirror else pixels
        return found
