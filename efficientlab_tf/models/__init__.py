"""Segmentation networks: Keras functional models and the layers they are made of."""
