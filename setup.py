"""The packages of the wheel; all else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = ["efficientlab_tf.flagfiles", "efficientlab_tf.saved_models"]
setup(packages=[*find_packages(include=["efficientlab_tf*"]), *FOLDERS])
