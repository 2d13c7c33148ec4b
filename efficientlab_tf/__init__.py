"""Few-shot image segmentation by meta-learning, in TensorFlow and Keras."""

import os

# Read when Keras is first imported, which is after this.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

__version__ = "0.1.0"
