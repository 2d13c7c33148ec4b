"""Readers of published and common data layouts; each yields examples."""
