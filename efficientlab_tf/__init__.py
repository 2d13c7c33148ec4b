"""Few-shot image segmentation by meta-learning, in TensorFlow and Keras.

Give a model a few labelled pictures of a thing, and it segments that thing in others:

    import efficientlab_tf as el

    adapted = el.adapt(images, masks)
    masks = adapted.predict(pictures)

It looks for the best way by itself; `el.load(NAME).adapt(images, masks)` takes a model
of your choice.
"""

import os
import sys
import types
from typing import TYPE_CHECKING, Any

from efficientlab_tf.errors import UserError
from efficientlab_tf.shipped import shipped

# Read when Keras is first imported, which is after this.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from efficientlab_tf.api.loading import adapt, load
    from efficientlab_tf.api.model import AdaptedModel, Model
    from efficientlab_tf.config import Settings

__version__ = "0.2.0"

__all__ = [
    "AdaptedModel",
    "Model",
    "Settings",
    "UserError",
    "__version__",
    "adapt",
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


class _Package(types.ModuleType):
    """Its `adapt` is the function, also when the command's module of that name is."""

    @property
    def adapt(self) -> Any:
        from efficientlab_tf.api.loading import adapt

        return adapt

    @adapt.setter
    def adapt(self, module: types.ModuleType) -> None:
        """Python sets a module that it has imported."""


sys.modules[__name__].__class__ = _Package
