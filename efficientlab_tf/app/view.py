"""What the page shows of a session, in pictures and words; no Gradio in it."""

import dataclasses
import json
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from efficientlab_tf.app.annotations import BACKGROUND, Area, Layer, Stroke
from efficientlab_tf.app.methods import Method
from efficientlab_tf.app.picture import THUMBNAIL_SIDE, Window
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.errors import UserError

WELCOME = "Drop in pictures, or take a sample, to begin."
POINT, BRUSH, BOX, POLYGON = "point", "brush", "box", "polygon"
_ZOOMS = (1, 2, 4, 8)
_MOST_PLACES = 5000
_MIDDLE = 0.5, 0.5
_FRAME, _ACCENT = 5, (67, 56, 202)


@dataclasses.dataclass(eq=False)
class Session:
    """A user's workspace, and what he looks at.

    Attributes:
      workspace: his own.
      index: the number of the picture that is shown large.
      order: in which all are shown below, as of the last look.
      plain: whether pictures are shown without masks and marks.
      zoom: how many times larger than it fits the picture is shown.
      focus: the middle of what is shown of it, in parts of its sides.
      near: where something was done last: there it is shown larger.
      labels: the classes that were offered last.
    """

    workspace: Workspace
    index: int = 0
    order: list[int] = dataclasses.field(default_factory=list)
    plain: bool = False
    zoom: int = 1
    focus: tuple[float, float] = _MIDDLE
    near: tuple[float, float] = _MIDDLE
    labels: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """The part of the picture that is shown."""
        side = 1 / self.zoom
        top, left = (min(max(at - side / 2, 0), 1 - side) for at in self.focus)
        return Window(top, left, side)

    def turn_to(self, index: int) -> None:
        """Shows another picture, the whole of it."""
        self.index, self.zoom, self.near = index, 1, _MIDDLE

    def step_on(self, by: int) -> None:
        """Goes to the next picture in the order shown, or with -1 to the one before."""
        if self.order:
            place = self.order.index(self.index) + by
            self.turn_to(self.order[place % len(self.order)])

    def zoom_by(self, by: int) -> None:
        """Shows the picture larger, or with -1 smaller."""
        if by > 0:
            self.focus = self.near
        place = _ZOOMS.index(self.zoom) + by
        self.zoom = _ZOOMS[min(max(place, 0), len(_ZOOMS) - 1)]

    def act(self, gesture: str, label: int, radius: float) -> bool:
        """Does what was done on the picture; returns whether marks were changed.

        Args:
          gesture: JSON: {"tool": one of `POINT`, `BRUSH`, `BOX`, `POLYGON`,
            "places": rows and columns in parts of what is shown}, or
            {"zoom": 1 or -1, "places": [where]}, or {"move": [down, right]}.
          label: of marks: 0, 1..K, or 255, the eraser.
          radius: of the brush, in % of the picture's longer side.

        Raises:
          UserError: there is no picture, or what it says cannot be.
        """
        size = self.workspace.picture(self.index).size
        try:
            done = json.loads(gesture)
            if "move" in done:
                self._move(np.array(done["move"], float).reshape(2))
                return False
            places = np.array(done["places"], float).reshape(-1, 2)
            if not 0 < len(places) <= _MOST_PLACES or not (abs(places) <= 2).all():
                raise ValueError("no places, too many, or far away")
            tool, by = done.get("tool"), int(done.get("zoom", 0))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError("this gesture was not understood; do it again") from None
        window, size = self.window, np.array(size)
        places = [window.top, window.left] + window.side * np.clip(places, 0, 1)
        self.near = tuple(places.mean(0).tolist())
        if by:
            self.zoom_by(by)
            return False
        at = np.minimum(places * size, size - 1e-3)
        if tool in (BOX, POLYGON):
            corners = np.clip(at - 0.5, 0, size - 1).tolist()
            mark: Stroke | Area = Area(tuple(map(tuple, corners)), label)
        else:
            path = tuple(map(tuple, at.astype(int).tolist()))
            reach = radius / 200 * max(size.tolist()) if tool == BRUSH else 0.0
            mark = Stroke(path, label, reach)
        self.workspace.put(self.index, mark)
        return True

    def _move(self, by: np.ndarray) -> None:
        if not (abs(by) <= 1).all():
            raise ValueError("nowhere, or too far")
        own = self.window
        middle = [own.top + own.side / 2, own.left + own.side / 2]
        self.focus = self.near = tuple((middle + own.side * by).clip(0, 1).tolist())


def view(session: Session, message: str = "") -> tuple[Any, list, str]:
    """What canvas, gallery and status show."""
    workspace = session.workspace
    count = len(workspace.pictures)
    session.index = max(0, min(session.index, count - 1))
    if not count:
        return None, [], message or WELCOME
    thumbnails = []
    session.order = workspace.order()
    masks = not session.plain
    for i in session.order:
        picture = workspace.pictures[i]
        small = Image.fromarray(workspace.shown(i, THUMBNAIL_SIDE, masks=masks))
        if i == session.index:
            box = (0, 0, small.width - 1, small.height - 1)
            ImageDraw.Draw(small).rectangle(box, outline=_ACCENT, width=_FRAME)
        marks = len(picture.annotations.marks)
        caption = picture.name
        if marks:
            caption = f"{marks} mark{'s' * (marks > 1)}: {caption}"
        elif picture.probability is not None:
            caption = f"sure {100 * picture.confidence:.0f} %: {caption}"
        thumbnails.append((small, caption))
    shown = workspace.shown(session.index, masks=masks, window=session.window)
    return shown, thumbnails, message or _status(session)


def _status(session: Session) -> str:
    workspace = session.workspace
    name = workspace.pictures[session.index].name
    marked = sum(bool(picture.annotations.marks) for picture in workspace.pictures)
    text = f"**{name}**. {marked} of {len(workspace.pictures)} pictures are marked. "
    if session.plain:
        return text + "Masks and marks are hidden: M shows them."
    if not marked:
        return text + "Click on the object, then on what is not the object."
    if workspace.stale:
        return text + "Press *Adapt* to bring the masks up to date."
    text += f"Masks by {workspace.adapted_by}. "
    if workspace.estimate:
        text += f"Expected IoU on new pictures: {workspace.estimate}. "
    if not _has_background(workspace):
        return text + (
            "**Background points help**: press B, then click on what is not the object."
        )
    return text + "Correct what is wrong, and mark what it is least sure of."


def _has_background(workspace: Workspace) -> bool:
    marks = (mark for one in workspace.pictures for mark in one.annotations.marks)
    return any(
        (mark.mask == BACKGROUND).any()
        if isinstance(mark, Layer)
        else mark.label == BACKGROUND
        for mark in marks
    )


def describe(method: Method) -> str:
    """What to expect of a method and what it needs."""
    height, width = method.size
    return f"{method.about} (It sees {height} x {width} pixels.)"


def sentence(error: UserError) -> str:
    text = str(error)
    return text[0].upper() + text[1:] + "."
