"""The notebooks run as a reader would run them, with fewer steps."""

import json
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
SHORTER = {
    "five_pictures": "BUDGET = 1.0",
    "maml_backward": "META_STEPS = 20",
    "meta_train": "META_STEPS = 2",
}


def test_all_are_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SHORTER)


@pytest.mark.parametrize("name", SHORTER)
def test_a_notebook_runs(name, tmp_path):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    settings = [
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    ]
    name_of_setting = SHORTER[name].split(" = ")[0]
    assert name_of_setting in settings[0].source
    settings[0].source += f"\n{SHORTER[name]}"
    # A cell that raises ends it.
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()


@pytest.mark.parametrize("name", SHORTER)
def test_what_is_kept_of_its_output_is_small(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    kept = [output for cell in cells for output in cell.get("outputs", ())]
    pictures = [
        o["data"]["image/png"] for o in kept if "image/png" in o.get("data", ())
    ]
    assert pictures and max(len(b64decode(one)) for one in pictures) < 100_000
    assert all(output["output_type"] != "error" for output in kept)
