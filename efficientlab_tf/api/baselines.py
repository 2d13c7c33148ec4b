"""Methods that need no trained model, behind the door."""

from pathlib import Path

from efficientlab_tf.api.model import AdaptedModel, Model
from efficientlab_tf.checkpoint.files import load_checkpoint
from efficientlab_tf.checkpoint.linear import load_linear, save_linear
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import numbered
from efficientlab_tf.segmenters.baselines import (
    FeatureExtractor,
    LogisticRegressionAdapted,
    build_baseline,
    needs_extractor,
)
from efficientlab_tf.segmenters.baselines.features import IMAGE_SIZE
from efficientlab_tf.segmenters.segmenter import Segmenter

LINEAR = "logistic_regression"


class BaselineModel(Model):
    """A method that needs no trained model, see `segmenters.baselines`.

    Args:
      name: one of `BASELINES`.
      extractor: of its features; None for a method that sees none.
      size: height and width, for a method without an extractor.
      fitted: a classifier that was fitted before.
    """

    def __init__(
        self,
        name: str,
        extractor: FeatureExtractor | None,
        size: tuple[int, int],
        fitted: LogisticRegressionAdapted | None = None,
    ):
        self.name = name
        self.size = extractor.image_size if extractor else size
        self.defaults = Settings()
        self._segmenter = build_baseline(name, extractor)
        self._fitted = fitted

    def segmenter(self, classes: int = 1, settings: Settings = OWN) -> Segmenter:
        """See `Model`."""
        self.resolve(settings)
        return self._segmenter

    @property
    def adapted(self) -> "AdaptedModel":
        """See `Model`."""
        if self._fitted is None:
            return super().adapted
        names = numbered(len(self._fitted.bias) - 1)
        return AdaptedModel(self, self._fitted, names)

    def save_adapted(self, adapted: AdaptedModel, path: Path) -> None:
        """See `Model`."""
        if not isinstance(adapted.adapted, LogisticRegressionAdapted):
            return super().save_adapted(adapted, path)
        save_linear(path, adapted.adapted)


def load_baseline(
    name: str, backbone: str, image_size: int | None, features: str | Path | None
) -> BaselineModel:
    """Builds a method; arguments as `load`.

    Raises:
      UserError: no such backbone or model, or features for a method that sees none.
    """
    if not needs_extractor(name):
        if features:
            raise UserError(f"{name} sees no features; leave {features} out")
        side = image_size or IMAGE_SIZE
        return BaselineModel(name, None, (side, side))
    if features is None:
        return BaselineModel(name, FeatureExtractor(backbone, image_size), (0, 0))
    trained = load_checkpoint(str(features))
    trained.network.assign(trained.weights)
    extractor = FeatureExtractor.of_network(trained.network.model)
    return BaselineModel(name, extractor, (0, 0))


def load_fitted(path: Path) -> BaselineModel:
    """Loads a classifier that was fitted and saved before.

    Raises:
      UserError: the file holds none.
    """
    fitted = load_linear(path)
    return BaselineModel(LINEAR, fitted.extractor, fitted.image_size, fitted)
