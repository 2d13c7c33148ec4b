"""The packages of the wheel; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = ["efficientlab_tf.flagfiles", "efficientlab_tf.saved_models"]
MODELS = [path.parent.name for path in Path("saved_models").glob("*/model.keras")]
TOOLS = ["convert", "verify", "inspect_dataset"]
setup(
    # Folders of data are packages to setuptools, which warns if they are not named.
    packages=[
        *find_namespace_packages(include=["efficientlab_tf*"]),
        *FOLDERS,
        *(f"efficientlab_tf.saved_models.{name}" for name in sorted(MODELS)),
    ],
    py_modules=[f"efficientlab_tf.tools.{name}" for name in TOOLS],
)
