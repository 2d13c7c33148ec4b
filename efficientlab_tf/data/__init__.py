"""Reading, writing, sampling and augmenting few-shot segmentation data."""
