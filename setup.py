"""Metadata and dependencies; versions that were tested together: constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "efficientlab_tf/__init__.py").read_text()
).group(1)
# Optuna's Gaussian process, --sampler=gp, needs scipy and torch as well: too much to
# install for an option.
TUNE = ["optuna>=4.2"]
# For --video=mp4; GIF needs nothing more.
VIDEO = ["imageio-ffmpeg>=0.6"]
APP = ["gradio>=6.31,<7"]

setup(
    name="efficientlab_tf",
    version=VERSION,
    description="Few-shot image segmentation by meta-learning, in TensorFlow and Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["efficientlab_tf", "efficientlab_tf.*"]),
    package_data={
        "efficientlab_tf.data": ["splits/*", "sample/*", "sample/*/*"],
        "efficientlab_tf.models": ["weights/*"],
    },
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.12,<4",
        "numpy>=2.0",
        "pillow>=11",
        "absl-py>=2.1",
        "tensorboard>=2.20",
        "tqdm>=4.66",
        "psutil>=6",
        "matplotlib>=3.9",
        "scikit-learn>=1.5",
        "scipy>=1.13",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "tune": TUNE,
        "video": VIDEO,
        "app": APP,
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "openvino>=2026.4",
            "tensorflow-serving-api>=2.21,<2.22",
            "selenium>=4.30",
            *TUNE,
            *VIDEO,
            *APP,
        ],
        # learn2learn's sources do not compile from Python 3.11 on; for these,
        # `tools/benchmark.py second_order --parts learn2learn` says what to do.
        "bench": ["torch>=2.13", "learn2learn>=0.2; python_version < '3.11'"],
    },
)
