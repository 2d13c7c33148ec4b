"""The page's command without its page."""

import runpy
import socket
import sys

import pytest

from efficientlab_tf.api.baselines import LINEAR
from efficientlab_tf.app.__main__ import check_address, serve
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import load_methods
from efficientlab_tf.config import OWN
from efficientlab_tf.errors import UserError
from efficientlab_tf.shipped import shipped
from tests.app.untrained import ROOT


def test_what_the_command_line_refuses(monkeypatch, tmp_path, paths):
    for changes, message in (
        ({"port": 0}, "`port` must be at least 1"),
        ({"threshold": 1.0}, "`threshold` must be below 1"),
        ({"max_upload_mb": 0.0}, "`max_upload_mb` must be above 0"),
        ({"max_pictures": 0}, "`max_pictures` must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            AppConfig(**changes)
    assert AppConfig(model="a, b,").models == ("a", "b")
    assert AppConfig().host == "127.0.0.1"
    with pytest.raises(UserError, match="two models are called tiny"):
        load_methods([paths[2], str(tmp_path / "tiny" / "model.keras")], OWN)
    first, *names = AppConfig().models
    assert {*names} <= {*shipped(), "linear", LINEAR} and first in shipped()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: "):
            check_address(AppConfig(port=port))
    check_address(AppConfig(port=port))
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'efficientlab_tf\[app\]'"):
        serve(AppConfig(model=paths[0]))


def test_the_core_needs_no_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    files = sorted((ROOT / "efficientlab_tf/app").glob("*.py"))
    assert len(files) == 14
    for file in files:
        if file.name in ("actions.py", "page.py"):
            with pytest.raises(ImportError, match="gradio"):
                runpy.run_path(str(file))
        else:
            runpy.run_path(str(file))
