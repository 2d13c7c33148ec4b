"""The outer loop: training, checkpoints, summaries, evaluation."""
