"""What happens on the page: what a click or a key does, and what is shown then.

Each function gets the `Session` of whoever did it and what elements held, and returns
what the elements of `shown` show.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from efficientlab_tf.app.annotations import BACKGROUND, FOREGROUND
from efficientlab_tf.app.project import SUFFIX, open_project
from efficientlab_tf.app.view import Session, sentence, view
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.samples import SHOTS, read_sample
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError


def friendly(function: Callable, begin: Callable[[], Workspace]) -> Callable:
    """Gives a user a session; shows what he can put right as a message, no stack."""

    @functools.wraps(function)
    def checked(session: Session | None, *args, **kwargs):
        session = session or Session(begin())
        try:
            result = function(session, *args, **kwargs)
        except UserError as error:
            raise gr.Error(sentence(error), print_exception=False) from None
        # The session goes out again, so that its time to live starts anew.
        return session, *(result if isinstance(result, tuple) else (result,))

    return checked


def labels(classes: list[str]) -> list[tuple[str, int]]:
    """What a mark may be of, in the order of the page."""
    names = [(f"{name} ({i})", i) for i, name in enumerate(classes, start=1)]
    return [("Background (B)", BACKGROUND), *names, ("Eraser (E)", IGNORE)]


def shown(session: Session, message: str = "", label: int | None = None) -> tuple:
    """What all elements of `shown` show; classes only where they have changed."""
    classes = tuple(session.workspace.classes.names)
    radio = gr.skip()
    if classes != session.labels or label is not None:
        fewer = len(classes) < len(session.labels)
        session.labels, choices = classes, labels(list(classes))
        if fewer and label is None:
            label = FOREGROUND
        radio = gr.update(choices=choices)
        if label is not None:
            radio = gr.update(choices=choices, value=label)
    return *view(session, message), radio


def act(session, method, label, radius, gesture):
    """Does what was done on the picture; see `Session.act`."""
    session.plain = False
    if session.act(gesture, label, radius):
        return after_change(session, method)
    return shown(session)


def choose(session, event: gr.SelectData):
    """Shows the picture that was clicked on below."""
    session.turn_to(session.order[event.index])
    return shown(session)


def show_or_hide(session) -> None:
    """Before and after."""
    session.plain = not session.plain


def looking(look: Callable[[Session], None]) -> Callable:
    """What is only looked at otherwise changes no marks."""

    def looked(session):
        look(session)
        return shown(session)

    return looked


def changing(change: Callable) -> Callable:
    """What changes marks or pictures; fast methods follow."""

    def changed(session, method, *others):
        change(session.workspace, session.index, *others)
        return after_change(session, method)

    return changed


def set_mask(workspace, index, file, label):
    """Puts a mask file in place of a picture's marks."""
    workspace.set_mask(index, Path(file).read_bytes(), label)


def add_class(session, name):
    """Names another class and chooses it."""
    return "", *shown(session, label=session.workspace.classes.add(name))


def rename_class(session, name, label):
    """Gives the class that is chosen another name."""
    session.workspace.classes.rename(label, name)
    return "", *shown(session)


def add(session, method, files):
    """Takes pictures and projects that were dropped in."""
    paths = [Path(file) for file in files or []]
    for path in paths:
        try:
            if path.suffix.lower() == SUFFIX:
                open_project(session.workspace, path.name, path.read_bytes())
                session.turn_to(0)
            else:
                session.workspace.add(path.name, path.read_bytes())
        except UserError as error:
            gr.Warning(sentence(error))
    opened = any(picture.annotations.marks for picture in session.workspace.pictures)
    return None, *(after_change(session, method) if opened else shown(session))


def start_anew(session):
    """Forgets everything."""
    session.workspace.clear()
    session.turn_to(0)
    session.plain = False
    return shown(session)


def sample(session, method, name, given):
    """Takes a sample in place of what is there."""
    start_anew(session)
    for number, (file, image, mask) in enumerate(read_sample(name)):
        session.workspace.add(file, image, mask if given and number < SHOTS else None)
    return after_change(session, method) if given else shown(session)


def adapt(session, method, steps, progress=gr.Progress()):  # noqa: B008
    """Learns and segments, as the button says."""
    progress(0, desc="reading the pictures")

    def show(done: int, of: int) -> None:
        progress((done, of), desc="adapting", unit="steps")

    own = session.workspace.methods[method].steps
    session.plain = False
    session.workspace.adapt(method, int(steps) if own else 0, show)
    return shown(session)


def after_change(session, method):
    """With a method that is fast enough all masks follow each change."""
    workspace, message = session.workspace, ""
    if workspace.methods[method].live and workspace.pictures:
        try:
            workspace.adapt(method)
        except UserError as error:
            message = sentence(error)
    return shown(session, message)
