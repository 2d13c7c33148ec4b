"""The packages of the wheel; all else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = ["efficientlab_tf.flagfiles", "efficientlab_tf.saved_models"]
TOOLS = ["convert", "verify", "inspect_dataset"]
setup(
    packages=[*find_packages(include=["efficientlab_tf*"]), *FOLDERS],
    py_modules=[f"efficientlab_tf.tools.{name}" for name in TOOLS],
)
