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
    check_support,
    labelled_cells,
    one_thread,
    query_features,
)
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter


@dataclasses.dataclass(frozen=True)
class NearestNeighbour(Segmenter):
    """Labels each query cell as the nearest support cell, of all shots together.

    Attributes:
      extractor: of the features.
      scale: see above, in units of the features.
    """

    extractor: FeatureExtractor
    scale: float = 0.1
    live = True
    needs_background = True

    def __post_init__(self):
        if not self.scale > 0:
            raise UserError(
                f"scale: expected a number above 0; received {self.scale!r}"
            )

    def read(self, images: np.ndarray) -> Features:
        """See `Segmenter`: dense features."""
        return Features(self.extractor(images))

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "NearestNeighbourAdapted":
        """Remembers a support set; see `Segmenter`. The seed decides nothing.

        Raises:
          UserError: wrong shapes or types, or a class without labels.
        """
        if not isinstance(images, Features):
            images, masks, _ = check_support(images, masks)
            images = self.read(images)
        labels, classes = labelled_cells(masks, self.extractor.grid)
        # Brute force: a tree prunes nothing in a hundred dimensions, and a few
        # thousand cells are one product of matrices.
        searches = tuple(
            NearestNeighbors(n_neighbors=1, algorithm="brute").fit(features)
            if len(features)
            else None
            for features in (
                images.values[labels == label] for label in range(classes + 1)
            )
        )
        return NearestNeighbourAdapted(
            self.extractor, searches, self.scale, np.shape(masks)[1:]
        )


@dataclasses.dataclass(frozen=True)
class NearestNeighbourAdapted(Adapted):
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

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`.

        Raises:
          UserError: queries of another shape or type than the support images.
        """
        read = query_features(self.extractor, images, self.image_size)
        shape = (len(read), *self.image_size, len(self.searches))
        result = np.empty(shape, np.float32)
        # One at a time, so that no rounding depends on the others.
        for out, features in zip(result, read, strict=True):
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
