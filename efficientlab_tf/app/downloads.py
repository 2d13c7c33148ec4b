"""What a user of the page takes away: masks, annotations, the adapted model.

Each function writes a ZIP file into the workspace's folder, and raises `UserError` if
nothing was adapted yet.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from efficientlab_tf.app.methods import TURN
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.config import ExportConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.annotations import FORMATS, Prediction
from efficientlab_tf.inference.queries import Query, output_names
from efficientlab_tf.inference.segmenting import MASKS
from efficientlab_tf.pictures import palette_image
from efficientlab_tf.serving.adapted import ServedAdapted
from efficientlab_tf.serving.folder import export


class _ElsewherePrediction(Prediction):
    """A prediction whose picture is not here."""

    def put(self, folder: Path) -> str:
        """The picture's own name."""
        return self.query.path.name


def write_masks(workspace: Workspace) -> Path:
    """Writes all masks, at their pictures' sizes.

    masks/NAME.png are palette images: 0 background, 1..K the classes.
    """
    with workspace.turn:
        masks, names = _named_masks(workspace)
        path = workspace.folder / "masks.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, mask in zip(names, masks, strict=True):
                with archive.open(f"{MASKS}/{name}.png", "w") as file:
                    palette_image(mask).save(file, "PNG")
        return path


def write_annotations(workspace: Workspace, form: str) -> Path:
    """Writes all masks for an annotation tool, the least sure first.

    The ZIP file names the pictures and does not hold them: they are with whoever
    dropped them in.

    Args:
      workspace: whose masks they are.
      form: of `inference.annotations.FORMATS`.
    """
    with workspace.turn:
        masks, names = _named_masks(workspace)
        predictions = []
        for picture, name, mask in zip(workspace.pictures, names, masks, strict=True):
            query = Query(Path(picture.name), None, name)
            predictions.append(_ElsewherePrediction(query, mask, picture.confidence))
        predictions.sort(key=lambda one: one.confidence)
        with tempfile.TemporaryDirectory(dir=workspace.folder) as folder:
            FORMATS[form](Path(folder), workspace.classes.names, predictions)
            stem = workspace.folder / form
            return Path(shutil.make_archive(str(stem), "zip", folder))


def write_model(workspace: Workspace) -> Path:
    """Writes the adapted model as a SavedModel: see `serving.adapted`.

    Its classes 1..k are those that were marked, in their order.
    """
    with workspace.turn:
        if workspace.adapted is None:
            raise UserError("there is no adapted model yet; mark the object and adapt")
        if workspace.stale:
            raise UserError("the marks have changed since; press adapt first")
        name, classes = workspace.adapted_by, len(workspace.learned)
        with tempfile.TemporaryDirectory(dir=workspace.folder) as folder:
            size = workspace.methods[name].size
            with TURN:
                own = ServedAdapted(workspace.adapted, size, classes, ExportConfig())
                export(Path(folder) / name / "1", own)
            stem = workspace.folder / f"{name}_adapted"
            return Path(shutil.make_archive(str(stem), "zip", folder))


def _named_masks(workspace: Workspace) -> tuple[list[np.ndarray], list[str]]:
    """The masks of all pictures, and the names of their files."""
    masks = [workspace.mask(i) for i in range(len(workspace.pictures))]
    if not masks:
        raise UserError("there are no masks yet; add pictures first")
    return masks, output_names([picture.name for picture in workspace.pictures])
