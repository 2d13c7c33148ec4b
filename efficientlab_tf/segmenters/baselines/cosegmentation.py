"""Co-segmentation: what the pictures have in common, whatever their masks say.

    the features of all support images and one query fall into k-means clusters j
    share_A(i, j): share of cluster j of the cells in part A of image i
    score_j = mean_i (share_centre(i, j) - share_border(i, j))
              * share of images with at least a hundredth of their cells in j
    foreground: clusters above Otsu's threshold of the scores, weighted by size
    p = softmax(-(distance to the nearest centre of background, foreground) / scale)

It stands in for Faktor & Irani's "Co-segmentation by Composition" (2013), which
Shaban et al. (2017, section 6) compare with at five shots: the floor of what can be
known without any mask. Theirs composes images of regions grown from matching
descriptors; this one clusters cells by what a network sees. Both take for foreground
what recurs, this one also what keeps off the border.

Per-image IoU on every third validation class of icons-fss, 160 pixels, 5 shots and 1:
8 clusters 45.5 and 43.0 %; 4: 41.8 and 43.3; 12: 44.4 and 39.4; scores above zero in
the place of Otsu: 44.0 and 39.5.
"""

import dataclasses
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines.features import (
    FeatureExtractor,
    nearest_first,
)
from efficientlab_tf.segmenters.baselines.support import (
    DenseAdapted,
    check_support,
    one_thread,
)
from efficientlab_tf.segmenters.segmenter import Features, Segmenter, values_of

_APPEARS = 0.01


@dataclasses.dataclass(frozen=True)
class CoSegmentation(Segmenter):
    """Segments what recurs in the middle of the pictures.

    It takes from the masks no more than K, and with K > 1 calls the foreground class 1.

    Attributes:
      extractor: of the features.
      clusters: of k-means.
      scale: see above, in units of the features.
    """

    extractor: FeatureExtractor
    clusters: int = 8
    scale: float = 0.1

    def __post_init__(self):
        if self.clusters < 2 or not self.scale > 0:
            raise UserError(
                "expected clusters from 2 and scale above 0; received "
                f"clusters={self.clusters!r}, scale={self.scale!r}"
            )

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "CoSegmentationAdapted":
        """Takes a support set's images, in any order, and K; see `Segmenter`.

        Args:
          images: uint8 [k, H, W, 3].
          masks: uint8 [k, H, W]; 0..K, 255 unknown, also everywhere.
          seed: of k-means.
        """
        images, masks, classes = check_support(values_of(images), masks)
        # k-means starts from cells by their number, so a set needs an order.
        ordered = sorted(images, key=lambda image: image.tobytes())
        return CoSegmentationAdapted(
            *(self, self.extractor(np.stack(ordered)), classes),
            *(masks.shape[1:], seed % 2**32),
        )


@dataclasses.dataclass(frozen=True)
class CoSegmentationAdapted(DenseAdapted):
    """The support images of one task.

    Attributes:
      method: its options.
      features: float32 [k, h, w, C], in the order of the images' bytes.
      classes: K.
      image_size: H and W.
      seed: of k-means.
    """

    method: CoSegmentation
    features: np.ndarray
    classes: int
    image_size: tuple[int, int]
    seed: int

    @property
    def extractor(self) -> FeatureExtractor:
        """See `CoSegmentation`."""
        return self.method.extractor

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """Segments each query together with the support set, and with no other query.

        See `DenseAdapted`.
        """
        return super().predict(values_of(images))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """See `DenseAdapted`."""
        scores = nearest_first(self._distances(features), self.method.scale)
        return np.pad(scores, ((0, 0), (0, 0), (0, self.classes - 1)))

    def _distances(self, query: np.ndarray) -> np.ndarray:
        """Of a query's cells to background and foreground, [h, w, 2]."""
        features = np.concatenate([self.features, query[np.newaxis]])
        flat = features.reshape(-1, features.shape[-1])
        clusters = min(self.method.clusters, len(flat))
        means = KMeans(clusters, n_init=1, random_state=self.seed)
        with one_thread(), warnings.catch_warnings():
            # Blank pictures have fewer different cells than clusters.
            warnings.simplefilter("ignore", ConvergenceWarning)
            cells = means.fit_predict(flat).reshape(features.shape[:-1])
            distances = means.transform(flat[-query[..., 0].size :])
        foreground = foreground_clusters(cells, clusters)
        nearest = np.zeros(len(distances)), np.full(len(distances), np.inf)
        if foreground.any():
            background = np.setdiff1d(cells, np.flatnonzero(foreground))
            nearest = (distances[:, own].min(-1) for own in (background, foreground))
        return np.stack(list(nearest), -1).reshape(*query.shape[:-1], 2)


def foreground_clusters(cells: np.ndarray, clusters: int) -> np.ndarray:
    """Tells which clusters are the foreground by the rule above: bool [clusters].

    Args:
      cells: int [n, h, w], the cluster of each cell of each image.
      clusters: how many there are; empty ones are never foreground.
    """
    scores, sizes = cluster_scores(cells, clusters)
    return (scores > otsu(scores, sizes)) & (sizes > 0)


def cluster_scores(cells: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores clusters by the rule above; arguments as `foreground_clusters`.

    Centre is the middle half of the rows and columns, border the outer eighth on
    each side, but at least one.

    Returns:
      The score and the mean share of the cells of each cluster, float [clusters].
    """
    height, width = cells.shape[1:]
    centre, inner = np.zeros((2, height, width), bool)
    centre[_middle(height, height // 4), _middle(width, width // 4)] = True
    inner[_middle(height, max(1, height // 8)), _middle(width, max(1, width // 8))] = 1
    is_in = cells[..., np.newaxis] == np.arange(clusters)
    share = is_in.mean((1, 2))
    towards_centre = is_in[:, centre].mean(1) - is_in[:, ~inner].mean(1)
    scores = towards_centre.mean(0) * (share >= _APPEARS).mean(0)
    return scores, share.mean(0)


def otsu(values: np.ndarray, weights: np.ndarray) -> float:
    """Otsu's threshold (1979): it parts values with the largest variance between.

    It lies between two of the values, float [n] with weights [n] from 0; infinity if
    all are equal.
    """
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    best, threshold = 0.0, np.inf
    for i in range(1, len(values)):
        low, high = weights[:i].sum(), weights[i:].sum()
        if low == 0 or high == 0 or values[i - 1] == values[i]:
            continue
        means = values[:i] @ weights[:i] / low, values[i:] @ weights[i:] / high
        between = low * high * (means[1] - means[0]) ** 2
        if between > best:
            best, threshold = between, (values[i - 1] + values[i]) / 2
    return threshold


def _middle(size: int, margin: int) -> slice:
    return slice(margin, size - margin)
