from setuptools import setup

setup()  # All of it is in pyproject.toml.
