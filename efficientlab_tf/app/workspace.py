"""What one user of the page works on: pictures, marks, masks. No page in it.

    with Workspace(methods, limits, folder) as workspace:
        workspace.add("a.jpg", data)
        workspace.mark(0, row, column, FOREGROUND)
        workspace.adapt("guided")
        workspace.mask(0)

`downloads` writes what is taken away. Of a picture it keeps small copies alone, and its
file on disk. One instance is one user's; its methods take
turns, so that quick clicks do not get into each other's way.
"""

import contextlib
import functools
import itertools
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientlab_tf.app.annotations import Annotations, Area, Stroke
from efficientlab_tf.app.classes import Classes
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import Method, OnStep
from efficientlab_tf.app.picture import (
    SHOWN_SIDE,
    WHOLE,
    Picture,
    Window,
    draw,
    read_layer,
    read_picture,
)
from efficientlab_tf.automatic.estimate import Estimate
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.metrics import confidence
from efficientlab_tf.segmenters.segmenter import Adapted

NO_PICTURES = (
    "there are no pictures, or they were forgotten as nothing was done for long; drop "
    "some in, or take a sample"
)


def _in_turn(method: Callable) -> Callable:
    @functools.wraps(method)
    def locked(self, *args, **kwargs):
        with self.turn:
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
      classes: the names of the classes 1..K.
      turn: held while one of its methods works.
      stale: whether marks changed since `adapt`, or nothing was adapted yet.
      adapted_by: name of the method that was adapted last; "" before.
      adapted: what it learned; None before.
      learned: the numbers of the classes that were marked then.
      estimate: what it said to expect of new pictures, if it did.
    """

    def __init__(self, methods: Mapping[str, Method], limits: AppConfig, folder: Path):
        self.methods = dict(methods)
        self.limits = limits
        self.pictures: list[Picture] = []
        self.classes = Classes(limits.max_classes)
        self._sharp: tuple[Picture, np.ndarray] | None = None
        self._parent = folder
        self._folder: Path | None = None
        self.turn = threading.RLock()
        self._numbers = itertools.count()
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
        """Forgets pictures, marks, classes and what was adapted."""
        for picture in self.pictures:
            picture.file.unlink(missing_ok=True)
        self.pictures.clear()
        self.classes, self._sharp = Classes(self.limits.max_classes), None
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
        picture = self.read(name, data)
        if mask is not None:
            layer = read_layer(picture, mask, self.limits)
            picture.annotations = picture.annotations.with_layer(layer)
            self.classes.reach(layer[layer != IGNORE].max(initial=0))
            self.stale = True
        self.pictures.append(picture)
        if self.adapted_by:
            self._predict()

    def read(self, name: str, data: bytes) -> Picture:
        """Reads a picture, see `read_picture`, without adding it.

        Raises:
          UserError: too large, or not a picture.
        """
        sizes = {method.size for method in self.methods.values()}
        picture = read_picture(name, data, sizes, self.limits)
        picture.file = self.folder / f"{next(self._numbers)}.picture"
        picture.file.write_bytes(data)
        return picture

    @_in_turn
    def replace(self, pictures: list[Picture], classes: list[str]) -> None:
        """Takes pictures of `read` and names of classes in place of its own."""
        self.clear()
        self.pictures, self.classes.names = list(pictures), list(classes)

    @_in_turn
    def remove(self, index: int) -> None:
        """Forgets a picture with its marks."""
        picture = self.picture(index)
        self.pictures.remove(picture)
        picture.file.unlink(missing_ok=True)
        if picture.annotations.marks:
            self.stale = True
        if not self.pictures:
            self._forget()

    @_in_turn
    def mark(
        self, index: int, row: int, column: int, label: int, radius: float = 0.0
    ) -> None:
        """Adds a point (radius 0) or a disc, or erases; see `put`."""
        self.put(index, Stroke(((row, column),), label, radius))

    @_in_turn
    def put(self, index: int, mark: Stroke | Area) -> None:
        """Adds a mark to a picture, or erases with it; see `Annotations.add`.

        Places and radius are in pixels of the picture, as `Picture.size` counts them;
        labels are 0 background, 1..K, 255 eraser.

        Raises:
          UserError: no such picture, outside of it, or no such label.
        """
        picture = self.picture(index)
        if mark.label != IGNORE and not 0 <= mark.label <= len(self.classes.names):
            raise UserError(
                f"label: expected 0 (background), {IGNORE} (eraser) or a class from 1 "
                f"to {len(self.classes.names)}, received {mark.label}"
            )
        self._change(picture, picture.annotations.add(mark))

    @_in_turn
    def set_mask(self, index: int, data: bytes, label: int = 1) -> None:
        """Puts a mask file in place of a picture's marks; see `picture.read_layer`.

        A mask of several classes has their numbers, and names those that are new.

        Args:
          index: the picture's number.
          data: the file.
          label: what a mask of one object is of; no class counts as the first.

        Raises:
          UserError: not a mask, or not of the picture's aspect ratio.
        """
        picture = self.picture(index)
        label = label if 1 <= label <= len(self.classes.names) else 1
        layer = read_layer(picture, data, self.limits, label)
        self.classes.reach(layer[layer != IGNORE].max(initial=0))
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
        learned = np.setdiff1d(masks, [0, IGNORE])
        numbers = np.arange(256, dtype=np.uint8)
        numbers[learned] = 1 + np.arange(len(learned))
        self.adapted, self.estimate = chosen.adapt(
            *(read, numbers[masks], len(learned), steps or chosen.steps, on_step)
        )
        self.adapted_by, self.learned = method, tuple(learned.tolist())
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
        """The mask of a picture, uint8 [height, width] of its own size; 0, 1..K.

        Raises:
          UserError: nothing was adapted yet.
        """
        picture = self.picture(index)
        if picture.probability is None:
            raise UserError("there are no masks yet; mark the object and press adapt")
        return picture.mask(picture.size, self.limits.threshold)

    @_in_turn
    def shown(
        self,
        index: int,
        side: int = SHOWN_SIDE,
        marks: bool = True,
        masks: bool = True,
        window: Window = WHOLE,
    ) -> np.ndarray:
        """A picture as it is shown, uint8 [h, w, 3], its longer side as asked for.

        Args:
          index: its number.
          side: one of `Picture.shown`.
          marks: whether they are drawn.
          masks: whether the mask is drawn, and with it the marks.
          window: the part to show; see `picture.draw`.
        """
        picture = self.picture(index)
        image = picture.shown[side]
        if window != WHOLE:
            image = window.resized(self._sharp_of(picture), image.shape[:2])
        if not masks:
            return image
        threshold = self.limits.threshold
        return draw(picture, image, threshold, marks=marks, window=window)

    def _sharp_of(self, picture: Picture) -> np.ndarray:
        """The picture as large as it is kept; of the last one that was looked at."""
        if self._sharp is None or self._sharp[0] is not picture:
            self._sharp = picture, picture.sharp()
        return self._sharp[1]

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

    @property
    def folder(self) -> Path:
        """A folder for its files, until `close`."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(dir=self._parent))
        return self._folder

    def _change(self, picture: Picture, annotations: Annotations) -> None:
        picture.history.append(picture.annotations)
        picture.annotations = annotations
        self.stale = True

    def _forget(self) -> None:
        self.adapted: Adapted | None = None
        self.adapted_by, self.stale = "", True
        self.learned: tuple[int, ...] = ()
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
        if not ((masks > 0) & (masks != IGNORE)).any():
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
        predicted = self.methods[self.adapted_by].predict(self.adapted, read)
        for picture, probability in zip(new, predicted, strict=True):
            picture.probability, picture.classes = probability, self.learned
            picture.confidence = confidence(probability, self.limits.threshold)
