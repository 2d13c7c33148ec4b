"""What the page shows of a session, in pictures and words; no Gradio in it."""

import dataclasses
from typing import Any

from PIL import Image, ImageDraw

from efficientlab_tf.app.methods import Method
from efficientlab_tf.app.picture import THUMBNAIL_SIDE
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.errors import UserError

WELCOME = "Drop in pictures, or take a sample, to begin."
_FRAME, _ACCENT = 5, (99, 102, 241)


@dataclasses.dataclass(eq=False)
class Session:
    """A user's workspace, and what he looks at.

    Attributes:
      workspace: his own.
      index: the number of the picture that is shown large.
      order: in which all are shown below, as of the last look.
    """

    workspace: Workspace
    index: int = 0
    order: list[int] = dataclasses.field(default_factory=list)


def view(session: Session, message: str = "") -> tuple[Any, list, str]:
    """What canvas, gallery and status show."""
    workspace = session.workspace
    count = len(workspace.pictures)
    session.index = max(0, min(session.index, count - 1))
    if not count:
        return None, [], WELCOME
    thumbnails = []
    session.order = workspace.order()
    for i in session.order:
        picture = workspace.pictures[i]
        small = Image.fromarray(workspace.shown(i, THUMBNAIL_SIDE))
        if i == session.index:
            box = (0, 0, small.width - 1, small.height - 1)
            ImageDraw.Draw(small).rectangle(box, outline=_ACCENT, width=_FRAME)
        marks = len(picture.annotations.marks)
        caption = f"{picture.name} ({marks})" if marks else picture.name
        if not marks and picture.probability is not None:
            caption += f", sure {100 * picture.confidence:.0f} %"
        thumbnails.append((small, caption))
    return workspace.shown(session.index), thumbnails, message or _status(session)


def _status(session: Session) -> str:
    workspace = session.workspace
    name = workspace.pictures[session.index].name
    marked = sum(bool(picture.annotations.marks) for picture in workspace.pictures)
    text = f"**{name}**. {marked} of {len(workspace.pictures)} pictures are marked. "
    if not marked:
        return text + "Click on the object, then on what is not the object."
    if workspace.stale:
        return text + "Press *Adapt* to bring the masks up to date."
    text += f"Masks by {workspace.adapted_by}. "
    if workspace.estimate:
        text += f"Expected IoU on new pictures: {workspace.estimate}. "
    return text + "Correct what is wrong, and mark what it is least sure of."


def step_on(session: Session, by: int) -> None:
    """Goes to the next picture in the order shown, or with -1 to the one before."""
    if session.order:
        place = session.order.index(session.index) + by
        session.index = session.order[place % len(session.order)]


def describe(method: Method) -> str:
    """What to expect of a method and what it needs."""
    height, width = method.size
    return f"{method.about} (It sees {height} x {width} pixels.)"


def sentence(error: UserError) -> str:
    text = str(error)
    return text[0].upper() + text[1:] + "."
