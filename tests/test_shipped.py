"""What comes with the package, found by its name and without TensorFlow."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from efficientlab_tf.errors import UserError

# The package's function of that name hides the module.
shipped = importlib.import_module("efficientlab_tf.shipped")
ROOT = Path(__file__).parents[1]


def test_each_model_is_described_by_the_first_sentence_of_its_card():
    models = shipped.shipped()
    folders = {path.parent.name for path in ROOT.glob("saved_models/*/README.md")}
    assert set(models) == folders and len(folders) >= 2
    for name, line in models.items():
        card = (ROOT / "saved_models" / name / "README.md").read_text()
        assert line in " ".join(card.split())
        assert line.endswith(".") and ". " not in line and len(line) <= 120
        assert shipped.shipped_path(name).name == "model.keras"
        assert shipped.shipped_path(name).is_file()


def test_folders_of_something_else_are_not_models(tmp_path, monkeypatch):
    for name in ("mine", "exported", "without_card"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/README.md").write_text("# mine\n\nIt is\nmine. And so on.\n\n1\n")
    (tmp_path / "mine/model.keras").touch()
    (tmp_path / "exported/README.md").touch()
    (tmp_path / "without_card/model.keras").touch()
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    assert shipped.shipped() == {"mine": "It is mine."}


@pytest.mark.parametrize("name", ["nothing", "../saved_models/icons_fomaml_lite0", ""])
def test_an_unknown_name_is_answered_with_the_names(name):
    with pytest.raises(UserError, match=f"{name!r}.*icons_fomaml_lite0, photos_closed"):
        shipped.shipped_path(name)


def test_a_flagfile_is_the_users_own_or_else_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = shipped.FLAGFILES / "quickstart.flags"
    assert ours.is_file()
    for path in ("quickstart.flags", "flags/quickstart.flags"):
        assert shipped.flagfile_path(path) == ours
    assert shipped.flagfile_path("mine.flags") == Path("mine.flags")
    Path("quickstart.flags").touch()
    assert shipped.flagfile_path("quickstart.flags") == Path("quickstart.flags")


def test_none_of_it_imports_tensorflow():
    program = (
        "import sys, efficientlab_tf, efficientlab_tf.cli\n"
        "efficientlab_tf.shipped()\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
