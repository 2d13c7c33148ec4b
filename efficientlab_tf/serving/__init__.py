"""Export to a SavedModel that a stock TensorFlow Serving serves."""
