"""1-NN on dense features (Shaban et al., 2017, section 6, "Base Classifiers").

    d_c(q) = min { |f(q) - f(s)| : support cells s of label c }
    label(q) = argmin_c d_c(q), the label of the nearest support cell
    p_c(q) = softmax_c(-d_c(q) / scale), and bilinearly to the image's size

The paper's masks are hard. The softmax has the same argmax in the middle of every
cell and says, too, how near the second class was, so that edges between cells go
where the two classes are equally near: on validation classes of icons-fss (see
`features`) 55 to 57 % per-image IoU at 5 shots in the place of 52 % for hard labels.
Above a tenth of the usual distance the scale hardly matters (within 0.7 points).
"""

import dataclasses

import numpy as np
from sklearn.neighbors import NearestNeighbors

from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.baselines.features import (
    FeatureExtractor,
    nearest_first,
    upsample,
)
from efficientlab_tf.segmenters.baselines.support import (
    check_queries,
    check_support,
    labelled_features,
    one_thread,
)


@dataclasses.dataclass(frozen=True)
class NearestNeighbour:
    """Labels each query cell as the nearest support cell, of all shots together.

    Attributes:
      extractor: of the features.
      scale: see above, in units of the features.
    """

    extractor: FeatureExtractor
    scale: float = 0.1

    def __post_init__(self):
        if not self.scale > 0:
            raise UserError(
                f"scale: expected a number above 0; received {self.scale!r}"
            )

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> "NearestNeighbourAdapted":
        """Remembers a support set; see `Segmenter`. The seed decides nothing.

        Raises:
          UserError: wrong shapes or types, or a class without labels.
        """
        support = check_support(support_images, support_masks)
        labelled = labelled_features(self.extractor, support)
        # Brute force: a tree prunes nothing in a hundred dimensions, and a few
        # thousand cells are one product of matrices.
        searches = tuple(
            NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features)
            if len(features)
            else None
            for features in (
                labelled.features[labelled.labels == label]
                for label in range(support.classes + 1)
            )
        )
        return NearestNeighbourAdapted(
            self.extractor, searches, self.scale, support.image_size
        )


@dataclasses.dataclass(frozen=True)
class NearestNeighbourAdapted:
    """The support cells of one task.

    Attributes:
      extractor: see `NearestNeighbour`.
      searches: one search for each label 0..K; None for a background without cells.
      scale: see `NearestNeighbour`.
      image_size: H and W.
    """

    extractor: FeatureExtractor
    searches: tuple[NearestNeighbors | None, ...]
    scale: float
    image_size: tuple[int, int]

    def predict(self, query_images: np.ndarray) -> np.ndarray:
        """Returns probabilities float32 [n, H, W, K+1]; see `Adapted`.

        Raises:
          UserError: queries of another shape or type than the support images.
        """
        images = check_queries(query_images, self.image_size)
        result = np.empty((*images.shape[:3], len(self.searches)), np.float32)
        # One at a time, so that no rounding depends on the others.
        for out, features in zip(result, self.extractor(images), strict=True):
            scores = nearest_first(self.distances(features), self.scale)
            out[:] = upsample(scores[np.newaxis], self.image_size)[0]
        return result

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distances [h, w, K+1] of features [h, w, C] to the nearest of each label."""
        flat = features.reshape(-1, features.shape[-1])
        result = np.full((len(flat), len(self.searches)), np.inf)
        with one_thread():
            for label, search in enumerate(self.searches):
                if search is not None:
                    result[:, label] = search.kneighbors(flat)[0][:, 0]
        return result.reshape(*features.shape[:-1], -1)
