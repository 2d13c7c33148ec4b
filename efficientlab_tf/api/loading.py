"""Loading a model by whatever name a person has for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientlab_tf import quiet  # Imports TensorFlow, before others do.
from efficientlab_tf.api.automatic import (
    METHODS,
    SOLVED_METHOD,
    AutomaticAdaptedModel,
    AutomaticModel,
    SavedAutomaticModel,
)
from efficientlab_tf.api.automatic_files import is_automatic
from efficientlab_tf.api.baselines import load_baseline, load_fitted
from efficientlab_tf.api.model import Model
from efficientlab_tf.api.networks import load_network
from efficientlab_tf.checkpoint.linear import is_linear
from efficientlab_tf.checkpoint.run import MODEL_FILE
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import Picture
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.shipped import shipped, shipped_path

BACKBONE = "EfficientNetLite0"


def load(
    source: str | Path = SOLVED_METHOD,
    *,
    tuned: bool = True,
    backbone: str = BACKBONE,
    image_size: int | None = None,
    features: str | Path | None = None,
) -> Model:
    """Loads a model.

    Args:
      source: a shipped model's name (`shipped()` lists them), a run's folder, a .keras
        file, or a method that needs no model: auto, linear, meta_learned (see
        `AutomaticModel`), logistic_regression, nearest_neighbour, cosegmentation,
        all_foreground, all_background. Unless told otherwise the best that was
        meta-learned.
      tuned: use the update hyperparameters that tuning left with the model, if any.
      backbone: of the features of a method that needs no model, with ImageNet's
        weights: an EfficientNet's name, VGG16, or hub:PRESET of KerasHub.
      image_size: side in pixels of the square that such a method works at; None: 224.
      features: take such a method's features from this trained model instead: a run's
        folder or a .keras file.

    Returns:
      The model; of "auto", "linear" and "meta_learned" an `AutomaticModel`.

    Raises:
      UserError: no such model, or not readable as such.
    """
    quiet.settle()
    source = str(source)
    if source in METHODS:
        return AutomaticModel(source)
    if source in BASELINES:
        return load_baseline(source, backbone, image_size, features)
    path = source
    if not Path(source).exists():
        if source in shipped():
            path = str(shipped_path(source))
        elif not Path(source).suffix and "/" not in source:
            raise UserError(
                f"no model {source!r}; expected a run's folder, a .keras file, one of "
                f"the shipped models ({', '.join(shipped())}), or one of "
                f"{', '.join((*METHODS, *BASELINES))}"
            )
    if is_automatic(Path(path)):
        return SavedAutomaticModel(Path(path))
    if is_linear(Path(path)):
        return load_fitted(Path(path))
    return load_network(source, path, tuned=tuned)


def adapt(
    images: Sequence[Picture], masks: Sequence[Picture], **options: Any
) -> AutomaticAdaptedModel:
    """Learns from labelled pictures, in the way that does best on them.

    The same as load("auto").adapt(images, masks).

    Args:
      images: see `AutomaticModel.adapt`.
      masks: see there.
      **options: the other arguments there.

    Returns:
      What was chosen, adapted to all pictures, with what to expect of it.

    Raises:
      UserError: see there.
    """
    return AutomaticModel().adapt(images, masks, **options)


def name_of(source: str | Path) -> str:
    """A short name: a run's folder gives it, also where the file in it is named."""
    path = Path(source).absolute()
    return path.parent.name if path.name == MODEL_FILE else path.stem
