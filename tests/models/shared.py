"""Data beside the repository that some tests compare with."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[3] / "shared"


def shared_path(name: str) -> Path:
    """The path of `name` in the shared data; skips the test where it is missing.

    The folder is $EFFICIENTLAB_SHARED, or `shared` beside the repository.
    """
    path = Path(os.environ.get("EFFICIENTLAB_SHARED", _BESIDE)) / name
    if not path.exists():
        pytest.skip(f"no {name} in {path.parent}; set EFFICIENTLAB_SHARED")
    return path
