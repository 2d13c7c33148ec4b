"""`adapt`: what it refuses, in one sentence."""

import subprocess
import sys

import pytest

from efficientlab_tf.adapt import AdaptConfig, adapt
from efficientlab_tf.errors import UserError
from tests.adapt.labelled_squares import ROOT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "linear"}, "give `model` or `method`, not both"),
        ({"budget": "soon"}, "`budget` must be seconds, such as 60s, or none"),
        ({"budget": "-1s"}, "`budget` must be seconds, .* received '-1s'"),
        ({"query": ""}, "`query` is needed"),
        ({"model": "nowhere.keras"}, "no such run folder or .keras file: nowhere"),
        ({"support": "nowhere"}, "no such file or folder: nowhere"),
        ({"query": "nowhere"}, "no such file or folder: nowhere; give pictures"),
        ({"query_masks": "nowhere"}, "`query_masks`: no such folder: nowhere"),
        ({"steps": "many"}, "`steps` must be a number, auto or model"),
        ({"steps": "-1"}, "`steps` must be a number, auto or model"),
        ({"save": "adapted.h5"}, "`save` must end in .keras, received adapted.h5"),
        ({"threshold": 1.0}, "`threshold` must be below 1, received 1.0"),
        ({"seed": -1}, "`seed` must be at least 0, received -1"),
        ({"classes": "dog"}, "has nothing labelled dog; it has object"),
    ],
)
def test_bad_arguments(paths, changes, message):
    with pytest.raises(UserError, match=message):
        adapt(AdaptConfig(**paths | changes))


def test_bad_folders(paths, tmp_path):
    (tmp_path / "file").write_text("a file")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="cannot write to .*choose a folder that"):
            adapt(AdaptConfig(**paths | {"output": str(output)}))
    for name in ("support", "query"):
        with pytest.raises(UserError, match="would write into the input"):
            adapt(AdaptConfig(**paths | {"output": paths[name]}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        adapt(AdaptConfig(**paths | {"query": str(tmp_path / "empty")}))
    with pytest.raises(UserError, match="no file in .* has the name of a picture"):
        adapt(AdaptConfig(**paths | {"query_masks": str(tmp_path / "empty")}))
    with pytest.raises(UserError, match="holds no labelled pictures"):
        adapt(AdaptConfig(**paths | {"support": str(tmp_path / "empty")}))
    (tmp_path / "empty" / "model.keras").write_text("no model")
    with pytest.raises(UserError, match="cannot be read"):
        adapt(AdaptConfig(**paths | {"model": str(tmp_path / "empty/model.keras")}))


def test_as_a_command():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "efficientlab_tf.adapt", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    bad = run("--support=x", "--inner_batch=4")
    assert bad.returncode == 2
    assert bad.stderr.splitlines()[-1] == "error: --query is needed, see --help"
    text = run("--help").stdout
    for flag in (
        "--support",
        "--query_masks",
        "--steps",
        "--inner_batch",
    ):
        assert flag in text


def test_annotations_of_an_unknown_format(paths):
    with pytest.raises(UserError, match="`annotations` must be of coco, .* 'coco,voc'"):
        AdaptConfig(**paths, annotations="coco,voc")
