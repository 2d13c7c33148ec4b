"""What one user of the page works on: pictures, marks, masks. No page in it.

    with Workspace(methods, limits, folder) as workspace:
        workspace.add("a.jpg", data)
        workspace.mark(0, row, column, FOREGROUND)
        workspace.adapt("guided")
        workspace.mask(0)
        workspace.write_masks()

Of a picture it keeps small copies alone. One instance is one user's; its methods take
turns, so that quick clicks do not get into each other's way.
"""

import contextlib
import functools
import io
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientlab_tf.app.annotations import FOREGROUND, Annotations
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import TURN, Method, OnStep
from efficientlab_tf.app.picture import (
    SHOWN_SIDE,
    Picture,
    draw,
    read_layer,
    read_picture,
)
from efficientlab_tf.automatic.estimate import Estimate
from efficientlab_tf.config import ExportConfig
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.annotations import FORMATS, Prediction
from efficientlab_tf.inference.queries import Query, output_names
from efficientlab_tf.inference.segmenting import MASKS
from efficientlab_tf.metrics import confidence
from efficientlab_tf.pictures import decide, palette_image
from efficientlab_tf.serving.adapted import ServedAdapted
from efficientlab_tf.serving.folder import export

NO_PICTURES = (
    "there are no pictures, or they were forgotten as nothing was done for long; drop "
    "some in, or take a sample"
)

_CLASS = "object"


class _ElsewherePrediction(Prediction):
    """A prediction whose picture is not here."""

    def put(self, folder: Path) -> str:
        """The picture's own name."""
        return self.query.path.name


def _in_turn(method: Callable) -> Callable:
    @functools.wraps(method)
    def locked(self, *args, **kwargs):
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Workspace(contextlib.AbstractContextManager):
    """See the module.

    Args:
      methods: by the names that `adapt` takes.
      limits: of what is refused.
      folder: for a folder of its own, which `close` deletes.

    Attributes:
      pictures: in the order in which they came.
      stale: whether marks changed since `adapt`, or nothing was adapted yet.
      adapted_by: name of the method that was adapted last; "" before.
      estimate: what it said to expect of new pictures, if it did.
    """

    def __init__(self, methods: Mapping[str, Method], limits: AppConfig, folder: Path):
        self.methods = dict(methods)
        self.limits = limits
        self.pictures: list[Picture] = []
        self._parent = folder
        self._folder: Path | None = None
        self._lock = threading.RLock()
        self._forget()

    def __exit__(self, *_) -> None:
        self.close()

    @_in_turn
    def close(self) -> None:
        """Forgets everything and deletes its folder. May be called again."""
        self.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @_in_turn
    def clear(self) -> None:
        """Forgets pictures, marks and what was adapted."""
        self.pictures.clear()
        self._forget()

    @_in_turn
    def add(self, name: str, data: bytes, mask: bytes | None = None) -> None:
        """Adds a picture file, see `read_picture`, with or without a mask file.

        If something was adapted, it is segmented at once.

        Raises:
          UserError: too many, too large, or not a picture.
        """
        if len(self.pictures) >= self.limits.max_pictures:
            raise UserError(
                f"{name}: there are {self.limits.max_pictures} pictures already, the "
                "most that are taken; start anew to work on others"
            )
        sizes = {method.size for method in self.methods.values()}
        picture = read_picture(name, data, sizes, self.limits)
        if mask is not None:
            layer = read_layer(picture, mask, self.limits)
            picture.annotations = picture.annotations.with_layer(layer)
            self.stale = True
        self.pictures.append(picture)
        if self.adapted_by:
            self._predict()

    @_in_turn
    def remove(self, index: int) -> None:
        """Forgets a picture with its marks."""
        picture = self.picture(index)
        self.pictures.remove(picture)
        if picture.annotations.marks:
            self.stale = True
        if not self.pictures:
            self._forget()

    @_in_turn
    def mark(
        self, index: int, row: int, column: int, label: int, radius: float = 0.0
    ) -> None:
        """Adds a point (radius 0) or a disc, or erases; see `Annotations.add`.

        Places and radius are in pixels of the picture, as `Picture.size` counts them;
        labels are 1 object, 0 background, 255 eraser.

        Raises:
          UserError: no such picture, outside of it, or no such label.
        """
        picture = self.picture(index)
        self._change(picture, picture.annotations.add(row, column, label, radius))

    @_in_turn
    def set_mask(self, index: int, data: bytes) -> None:
        """Puts a mask file in place of a picture's marks; see `picture.read_layer`.

        Raises:
          UserError: not a mask, or not of the picture's aspect ratio.
        """
        picture = self.picture(index)
        layer = read_layer(picture, data, self.limits)
        self._change(picture, picture.annotations.with_layer(layer))

    @_in_turn
    def undo(self, index: int) -> bool:
        """Takes a picture's last change back; returns whether there was one."""
        picture = self.picture(index)
        if not picture.history:
            return False
        picture.annotations = picture.history.pop()
        self.stale = True
        return True

    @_in_turn
    def clear_marks(self, index: int) -> None:
        """Takes all marks of a picture away; `undo` brings them back."""
        picture = self.picture(index)
        if picture.annotations.marks:
            self._change(picture, Annotations(picture.size))

    @_in_turn
    def adapt(
        self, method: str, steps: int = 0, on_step: OnStep = lambda done, of: None
    ) -> None:
        """Learns from all marks and segments all pictures.

        Takes so many steps of adaptation; 0 is the model's own number.

        Raises:
          UserError: nothing to learn from, or too many steps.
        """
        chosen = self.methods.get(method)
        if chosen is None:
            names = ", ".join(self.methods)
            raise UserError(f"method: expected one of {names}; received {method!r}")
        most = self.limits.max_steps
        if not 0 <= steps <= most:
            raise UserError(
                f"steps: expected 0 (the model's own) to {most}, received {steps}"
            )
        masks, read = self._masks(chosen.size), self._read(method)
        learned = chosen.adapt(read, masks, steps or chosen.steps, on_step)
        self._adapted, self.estimate = learned
        self.adapted_by = method
        for picture in self.pictures:
            picture.probability = None
        self._predict()
        self.stale = False

    @_in_turn
    def order(self) -> list[int]:
        """Numbers of the pictures: marked ones, then those that are worth marking next.

        Of the others that is the one whose mask the method is least sure of.
        """

        def place(index: int) -> float:
            picture = self.pictures[index]
            if picture.annotations.marks:
                return -1.0
            return 0.0 if picture.probability is None else picture.confidence

        return sorted(range(len(self.pictures)), key=place)

    @_in_turn
    def mask(self, index: int) -> np.ndarray:
        """The mask of a picture, uint8 [height, width] of its own size; 0 or 1.

        Raises:
          UserError: nothing was adapted yet.
        """
        picture = self.picture(index)
        if picture.probability is None:
            raise UserError("there are no masks yet; mark the object and press adapt")
        return decide(picture.probability, picture.size, self.limits.threshold)

    @_in_turn
    def shown(
        self, index: int, side: int = SHOWN_SIDE, marks: bool = True
    ) -> np.ndarray:
        """A picture with its mask, uint8 [h, w, 3]; see `picture.draw`."""
        return draw(self.picture(index), side, self.limits.threshold, marks)

    def _named_masks(self) -> tuple[list[np.ndarray], list[str]]:
        """The masks of all pictures, and the names of their files."""
        masks = [self.mask(i) for i in range(len(self.pictures))]
        if not masks:
            raise UserError("there are no masks yet; add pictures first")
        return masks, output_names([picture.name for picture in self.pictures])

    @_in_turn
    def write_masks(self) -> Path:
        """Writes all masks, at their pictures' sizes, into a ZIP file.

        masks/NAME.png are palette images: 0 background, 1 object.

        Raises:
          UserError: nothing was adapted yet.
        """
        masks, names = self._named_masks()
        path = self._own_folder() / "masks.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, mask in zip(names, masks, strict=True):
                file = io.BytesIO()
                palette_image(mask).save(file, "PNG")
                archive.writestr(f"{MASKS}/{name}.png", file.getvalue())
        return path

    @_in_turn
    def write_annotations(self, form: str) -> Path:
        """Writes all masks for an annotation tool, the least sure first, zipped.

        The ZIP file names the pictures and does not hold them: they are with whoever
        dropped them in.

        Args:
          form: of `inference.annotations.FORMATS`.

        Raises:
          UserError: nothing was adapted yet.
        """
        masks, names = self._named_masks()
        predictions = []
        for picture, name, mask in zip(self.pictures, names, masks, strict=True):
            query = Query(Path(picture.name), None, name)
            predictions.append(_ElsewherePrediction(query, mask, picture.confidence))
        predictions.sort(key=lambda one: one.confidence)
        own = self._own_folder()
        with tempfile.TemporaryDirectory(dir=own) as folder:
            FORMATS[form](Path(folder), [_CLASS], predictions)
            return Path(shutil.make_archive(str(own / form), "zip", folder))

    @_in_turn
    def write_model(self) -> Path:
        """Writes the adapted model as a SavedModel, zipped: see `serving.adapted`.

        Raises:
          UserError: nothing was adapted yet.
        """
        if self._adapted is None:
            raise UserError("there is no adapted model yet; mark the object and adapt")
        if self.stale:
            raise UserError("the marks have changed since; press adapt first")
        with tempfile.TemporaryDirectory(dir=self._own_folder()) as folder:
            version = Path(folder) / self.adapted_by / "1"
            size = self.methods[self.adapted_by].size
            with TURN:
                served = ServedAdapted(self._adapted, size, 1, ExportConfig())
                export(version, served)
            stem = self._own_folder() / f"{self.adapted_by}_adapted"
            return Path(shutil.make_archive(str(stem), "zip", folder))

    def picture(self, index: int) -> Picture:
        """A picture by its number.

        Raises:
          UserError: no such picture.
        """
        if not self.pictures:
            raise UserError(NO_PICTURES)
        last = len(self.pictures) - 1
        if not 0 <= index <= last:
            raise UserError(
                f"picture: expected a number from 0 to {last}, received {index}"
            )
        return self.pictures[index]

    def _own_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(dir=self._parent))
        return self._folder

    def _change(self, picture: Picture, annotations: Annotations) -> None:
        picture.history.append(picture.annotations)
        picture.annotations = annotations
        self.stale = True

    def _forget(self) -> None:
        self._adapted, self.adapted_by, self.stale = None, "", True
        self.estimate: Estimate | None = None

    def _masks(self, size: tuple[int, int]) -> np.ndarray:
        """All marks at a method's size, uint8 [n, H, W], if they tell something."""
        if not self.pictures:
            raise UserError(NO_PICTURES)
        masks = np.stack([p.annotations.raster(*size) for p in self.pictures])
        if (masks == IGNORE).all():
            raise UserError(
                "nothing is marked yet; click on the object in one of the pictures"
            )
        if not (masks == FOREGROUND).any():
            raise UserError(
                "only background is marked; click on the object, too, in at least one "
                f"picture (the model sees {size[0]} x {size[1]} pixels: a point on the "
                "very same place takes the earlier one's)"
            )
        return masks

    def _read(self, method: str) -> list[Any]:
        """What a method knows of all pictures; reads those that it has not seen."""
        chosen = self.methods[method]
        new = [picture for picture in self.pictures if method not in picture.read]
        if new:
            images = np.stack([picture.fitted[chosen.size] for picture in new])
            for picture, read in zip(new, chosen.read(images), strict=True):
                picture.read[method] = read
        return [picture.read[method] for picture in self.pictures]

    def _predict(self) -> None:
        """Segments the pictures that have no mask yet."""
        self._read(self.adapted_by)
        new = [picture for picture in self.pictures if picture.probability is None]
        read = [picture.read[self.adapted_by] for picture in new]
        predicted = self.methods[self.adapted_by].predict(self._adapted, read)
        for picture, probability in zip(new, predicted, strict=True):
            picture.probability = probability
            picture.confidence = confidence(probability, self.limits.threshold)
