"""Few-shot image segmentation by meta-learning, in TensorFlow and Keras.

Give a model a few labelled pictures of a thing, and it segments that thing in others:

    import efficientlab_tf as el

    model = el.load("icons_fomaml_lite0")
    adapted = model.adapt(images, masks)
    masks = adapted.predict(pictures)
"""

import os
from typing import TYPE_CHECKING, Any

from efficientlab_tf.errors import UserError
from efficientlab_tf.shipped import shipped

# Read when Keras is first imported, which is after this.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from efficientlab_tf.api.loading import load
    from efficientlab_tf.api.model import AdaptedModel, Model
    from efficientlab_tf.config import Settings

__version__ = "0.1.0"

__all__ = [
    "AdaptedModel",
    "Model",
    "Settings",
    "UserError",
    "__version__",
    "load",
    "shipped",
]

_MODULES = {
    "AdaptedModel": "api.model",
    "Model": "api.model",
    "Settings": "config",
    "load": "api.loading",
}


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import: only what is used imports it.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
