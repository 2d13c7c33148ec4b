"""Video object segmentation: a segmenter learns from some frames, labels the rest."""
