"""Readers of foreign data layouts; each yields pairs for `data.records`."""
