"""The methods of the page, loaded once, and a user's pictures."""

import pytest

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import load_methods
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.config import OWN
from tests.app.untrained import SIZES, encoded, picture, write_models


@pytest.fixture(scope="package")
def paths(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="package")
def methods(paths):
    return load_methods([*paths, LINEAR], OWN)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "users"
    folder.mkdir()
    return folder


@pytest.fixture
def sizes():
    """Heights and widths of a workspace's pictures; a module may have its own."""
    return SIZES


@pytest.fixture
def workspace(methods, folder, sizes):
    with Workspace(methods, AppConfig(), folder) as workspace:
        for i, size in enumerate(sizes):
            workspace.add(f"{i}.png", encoded(picture(size, i)))
        yield workspace
