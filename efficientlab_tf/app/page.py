"""The page itself, in Gradio: what is drawn where, and what a click does.

Each browser session has a `Workspace` of its own. Functions that compute take turns in
Gradio's queue; bad input comes back as a message on the page.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import gradio as gr

from efficientlab_tf.app.annotations import BACKGROUND, FOREGROUND
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import Method
from efficientlab_tf.app.picture import SHOWN_SIDE
from efficientlab_tf.app.view import (
    WELCOME,
    Session,
    describe,
    sentence,
    step_on,
    view,
)
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.picture_files import IMAGE_SUFFIXES
from efficientlab_tf.data.samples import PHOTOGRAPHS, SHOTS, read_sample, sample_names
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

TITLE = "Few-shot segmentation"
SUFFIXES = list(IMAGE_SUFFIXES)

_LABELS = [
    ("Object (O)", FOREGROUND),
    ("Background (B)", BACKGROUND),
    ("Eraser (E)", IGNORE),
]
_DOWNLOADS: dict[str, tuple[str, Callable[[Workspace], Path]]] = {
    "masks": ("Download masks", Workspace.write_masks),
    "coco": ("... as COCO", lambda own: own.write_annotations("coco")),
    "labelme": ("... as LabelMe", lambda own: own.write_annotations("labelme")),
    "model": ("Download model", Workspace.write_model),
}
"""Elements of the page to their texts, and what writes the file."""
_KEYS = """() => document.addEventListener("keydown", (event) => {
    const typing = event.target.matches(
        "textarea, select, input:not([type=radio]):not([type=range])"
    );
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = { z: "#undo", n: "#forth", p: "#back" }[event.key];
    const label = { o: 0, b: 1, e: 2 }[event.key];
    const element = at
        ? document.querySelector(at)
        : document.querySelectorAll("#label input")[label];
    if (element) element.click();
})"""
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto !important; }
#canvas img { cursor: crosshair; image-rendering: auto; }
#gallery, #gallery .grid-wrap { max-height: none; overflow: visible; }
#status { min-height: 3.2em; }
.download-link { position: absolute; width: 1px; height: 1px; overflow: hidden;
  opacity: 0; pointer-events: none; }
footer { display: none !important; }
"""


def _friendly(function: Callable, begin: Callable[[], Workspace]) -> Callable:
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


def build_page(
    methods: Mapping[str, Method], config: AppConfig, folder: Path
) -> gr.Blocks:
    """Builds the page for methods, by the names to choose from.

    Users' files go to `folder`; each user's are deleted when he has been away for long,
    all else is the caller's.
    """
    first, own = next(iter(methods.items()))
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(300, 600)
    ) as page:
        session = gr.State(
            None,
            time_to_live=60 * config.idle_minutes,
            delete_callback=lambda value: value and value.workspace.close(),
        )
        gr.Markdown(
            f"# {TITLE}\nMark the object on a few pictures; the model finds it on all "
            "of them. Correct what is wrong, and repeat."
        )
        with gr.Row():
            with gr.Column(scale=6, min_width=420):
                canvas = gr.Image(
                    show_label=False,
                    type="numpy",
                    format="jpeg",
                    interactive=False,
                    height=520,
                    buttons=["fullscreen"],
                    elem_id="canvas",
                )
                with gr.Row():
                    label = gr.Radio(
                        _LABELS,
                        value=FOREGROUND,
                        label="A click marks",
                        elem_id="label",
                        scale=3,
                    )
                    radius = gr.Slider(
                        0,
                        30,
                        value=0,
                        step=1,
                        label="Brush",
                        info="0: a point; else % of the picture's longer side",
                        elem_id="radius",
                        scale=3,
                    )
                with gr.Row():
                    undo = gr.Button("Undo (Z)", size="sm", elem_id="undo")
                    back = gr.Button("Previous (P)", size="sm", elem_id="back")
                    forth = gr.Button("Next (N)", size="sm", elem_id="forth")
                    clear = gr.Button("Clear marks", size="sm")
                    mask_file = gr.UploadButton(
                        "Mask from file", size="sm", file_types=SUFFIXES
                    )
                    remove = gr.Button("Remove picture", size="sm")
            with gr.Column(scale=4, min_width=320):
                upload = gr.File(
                    label="1. Drop in pictures",
                    file_count="multiple",
                    file_types=SUFFIXES,
                    height=130,
                    elem_id="upload",
                )
                with gr.Row(equal_height=True):
                    sample = gr.Dropdown(
                        sample_names(),
                        value=PHOTOGRAPHS,
                        label="... or take a sample",
                        elem_id="sample",
                        scale=3,
                    )
                    with gr.Column(scale=2, min_width=120):
                        given = gr.Checkbox(
                            label=f"with {SHOTS} masks",
                            value=True,
                            container=False,
                        )
                        load = gr.Button("Load", size="sm", elem_id="load")
                method = gr.Dropdown(
                    list(methods),
                    value=first,
                    label="2. Choose a method",
                    info=describe(own),
                    elem_id="method",
                )
                steps = gr.Slider(
                    1,
                    config.max_steps,
                    value=own.steps or 1,
                    step=1,
                    label="Steps of adaptation",
                    visible=own.steps > 0,
                )
                adapt = gr.Button(
                    "3. Adapt and segment all", variant="primary", elem_id="adapt"
                )
                status = gr.Markdown(WELCOME, elem_id="status", container=True)
                with gr.Row():
                    buttons = [
                        gr.Button(text, elem_id=name, size="sm", min_width=100)
                        for name, (text, _) in _DOWNLOADS.items()
                    ]
                links = [
                    gr.DownloadButton(
                        "file", elem_id=f"{name}_link", elem_classes="download-link"
                    )
                    for name in _DOWNLOADS
                ]
                anew = gr.Button("Start anew", size="sm", variant="stop")
        gr.Markdown(
            "### All pictures\nClick on one to mark it; marks are counted in brackets. "
            "Behind the marked ones come those worth marking next: the method is least "
            "sure of the first."
        )
        gallery = gr.Gallery(
            show_label=False,
            columns=5,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="contain",
            format="jpeg",
            buttons=[],
            elem_id="gallery",
        )
        shown, private = [canvas, gallery, status], {"api_visibility": "private"}

        def on(event: Callable, function: Callable, inputs: list, outputs: list, **how):
            how = {"concurrency_id": "quick", "concurrency_limit": 4, **private, **how}
            own = _friendly(function, lambda: Workspace(methods, config, folder))
            return event(own, [session, *inputs], [session, *outputs], **how)

        quiet = {"show_progress": "hidden", "trigger_mode": "multiple"}
        on(canvas.select, _click, [method, label, radius], shown, **quiet)
        on(gallery.select, _choose, [], shown, **quiet)
        for button, by in ((back, -1), (forth, 1)):
            on(button.click, _stepping(by), [], shown, **quiet)
        on(undo.click, _changing(Workspace.undo), [method], shown, **quiet)
        on(clear.click, _changing(Workspace.clear_marks), [method], shown, **quiet)
        on(mask_file.upload, _changing(_set_mask), [method, mask_file], shown)
        on(remove.click, _changing(Workspace.remove), [method], shown)
        on(upload.upload, _add, [upload], [*shown, upload])
        on(load.click, _sample, [method, sample, given], shown)
        on(anew.click, _start_anew, [], shown)
        alone = {"concurrency_id": "adapt", "concurrency_limit": 1}
        progress = {"show_progress_on": status}
        on(adapt.click, _adapt, [method, steps], shown, **alone, **progress)
        writers = [write for _, write in _DOWNLOADS.values()]
        for button, link, write in zip(buttons, links, writers, strict=True):

            def written(session, write=write):
                return str(write(session.workspace))

            done = on(button.click, written, [], [link])
            done.success(None, js=_click_on(link.elem_id), **private)

        def choose_method(name: str):
            own = methods[name]
            slider = gr.Slider(value=own.steps or 1, visible=own.steps > 0)
            return gr.Dropdown(info=describe(own)), slider

        page.load(None, js=_KEYS)
        method.change(choose_method, method, [method, steps], **private)
    return page.queue(max_size=config.max_waiting, api_open=False)


def _click(session, method, label, radius, event: gr.SelectData):
    workspace = session.workspace
    picture = workspace.picture(session.index)
    column, row = event.index
    shown = picture.shown[SHOWN_SIDE].shape[:2]
    row, column = (
        min(int((at + 0.5) * side / seen), side - 1)
        for at, side, seen in zip((row, column), picture.size, shown, strict=True)
    )
    size = radius / 200 * max(picture.size)
    workspace.mark(session.index, row, column, label, size)
    return _after_change(session, method)


def _choose(session, event: gr.SelectData):
    session.index = session.order[event.index]
    return view(session)


def _stepping(by: int) -> Callable:
    def stepped(session):
        step_on(session, by)
        return view(session)

    return stepped


def _changing(change: Callable) -> Callable:
    def changed(session, method, *file):
        change(session.workspace, session.index, *file)
        return _after_change(session, method)

    return changed


def _set_mask(workspace, index, file):
    workspace.set_mask(index, Path(file).read_bytes())


def _add(session, files):
    for file in files or []:
        path = Path(file)
        try:
            session.workspace.add(path.name, path.read_bytes())
        except UserError as error:
            gr.Warning(sentence(error))
    return *view(session), None


def _start_anew(session):
    session.workspace.clear()
    session.index = 0
    return view(session)


def _sample(session, method, name, given):
    _start_anew(session)
    for number, (file, image, mask) in enumerate(read_sample(name)):
        session.workspace.add(file, image, mask if given and number < SHOTS else None)
    return _after_change(session, method) if given else view(session)


def _adapt(session, method, steps, progress=gr.Progress()):  # noqa: B008
    progress(0, desc="reading the pictures")

    def show(done: int, of: int) -> None:
        progress((done, of), desc="adapting", unit="steps")

    own = session.workspace.methods[method].steps
    session.workspace.adapt(method, int(steps) if own else 0, show)
    return view(session)


def _after_change(session, method):
    """With a method that is fast enough all masks follow each change."""
    workspace, message = session.workspace, ""
    if workspace.methods[method].live and workspace.pictures:
        try:
            workspace.adapt(method)
        except UserError as error:
            message = sentence(error)
    return view(session, message)


def _click_on(elem_id: str) -> str:
    """JavaScript that follows a link once the page has put its file there."""
    return f"""() => setTimeout(() => {{
        const own = document.getElementById("{elem_id}");
        (own.closest("a") || own.querySelector("a") || own).click();
    }}, 300)"""
