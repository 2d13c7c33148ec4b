"""Hyperparameters of the update routine, tuned after meta-training."""
