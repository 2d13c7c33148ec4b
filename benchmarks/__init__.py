"""Measurements; `tools/benchmark.py` runs them."""
