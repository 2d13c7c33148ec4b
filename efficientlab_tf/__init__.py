"""Few-shot image segmentation by meta-learning, in TensorFlow and Keras."""

import os

# Set before TensorFlow is imported anywhere in the package: Keras must run on
# TensorFlow, and TensorFlow's start-up chatter would drown progress lines.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__version__ = "0.1.0"
