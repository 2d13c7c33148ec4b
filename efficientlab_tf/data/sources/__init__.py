"""Readers of foreign data layouts; each yields examples for `data.records`."""
