"""The page itself, in Gradio: what is drawn where, and what a click does.

Each browser session has a `Workspace` of its own. Functions that compute take turns in
Gradio's queue; bad input comes back as a message on the page.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from efficientlab_tf.app.annotations import BACKGROUND, FOREGROUND
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import Method
from efficientlab_tf.app.picture import SHOWN_SIDE, Limits
from efficientlab_tf.app.samples import read_sample, sample_names
from efficientlab_tf.app.view import WELCOME, Session, describe, sentence, view
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError

TITLE = "Few-shot segmentation"
SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"]

_LABELS = [("Object", FOREGROUND), ("Background", BACKGROUND), ("Eraser", IGNORE)]
_GIVEN = 5
"""Pictures of a sample that come with their masks, if masks are asked for."""
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto !important; }
#canvas img { cursor: crosshair; image-rendering: auto; }
#gallery, #gallery .grid-wrap { max-height: none; overflow: visible; }
#status { min-height: 3.2em; }
.download-link { position: absolute; width: 1px; height: 1px; overflow: hidden;
  opacity: 0; pointer-events: none; }
footer { display: none !important; }
"""


def _friendly(function: Callable, begin: Callable[[], Session]) -> Callable:
    """Gives a user a session; shows what he can put right as a message, no stack."""

    @functools.wraps(function)
    def checked(session: Session | None, *args, **kwargs):
        session = session or begin()
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
    """Builds the page.

    Args:
      methods: by the names to choose from.
      config: its limits.
      folder: for users' files; each user's are deleted when he has been away for
        long, all else is the caller's.
    """
    limits = Limits(
        file_bytes=config.max_upload_mb * 1e6,
        pixels=config.max_megapixels * 1e6,
        pictures=config.max_pictures,
        steps=config.max_steps,
        threshold=config.threshold,
    )
    first = next(iter(methods))
    idle = 60 * config.idle_minutes

    def begin() -> Session:
        return Session(Workspace(methods, limits, folder))

    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(300, 600)
    ) as page:
        session = gr.State(
            None,
            time_to_live=idle,
            delete_callback=lambda value: value.close() if value else None,
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
                    undo = gr.Button("Undo", size="sm", elem_id="undo")
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
                        value="icons: rocket",
                        label="... or take a sample",
                        elem_id="sample",
                        scale=3,
                    )
                    with gr.Column(scale=2, min_width=120):
                        given = gr.Checkbox(
                            label=f"with {_GIVEN} masks",
                            value=not methods[first].live,
                            container=False,
                        )
                        load = gr.Button("Load", size="sm", elem_id="load")
                method = gr.Dropdown(
                    list(methods),
                    value=first,
                    label="2. Choose a method",
                    info=describe(methods[first]),
                    elem_id="method",
                )
                steps = gr.Slider(
                    1,
                    config.max_steps,
                    value=methods[first].steps or 1,
                    step=1,
                    label="Steps of adaptation",
                    visible=methods[first].steps > 0,
                )
                adapt = gr.Button(
                    "3. Adapt and segment all", variant="primary", elem_id="adapt"
                )
                status = gr.Markdown(WELCOME, elem_id="status", container=True)
                with gr.Row():
                    masks = gr.Button("Download masks", elem_id="masks", size="sm")
                    model = gr.Button("Download model", elem_id="model", size="sm")
                masks_link, model_link = (
                    gr.DownloadButton(
                        "file", elem_id=f"{name}_link", elem_classes="download-link"
                    )
                    for name in ("masks", "model")
                )
                anew = gr.Button("Start anew", size="sm", variant="stop")
        gr.Markdown(
            "### All pictures\nClick on one to mark it; marks are counted in brackets."
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
        shown = [canvas, gallery, status]

        def on(
            event: Callable,
            function: Callable,
            inputs: list[Any],
            outputs: list[Any],
            **options,
        ) -> Any:
            return event(
                _friendly(function, begin),
                [session, *inputs],
                [session, *outputs],
                api_visibility="private",
                **{"concurrency_id": "quick", "concurrency_limit": 4, **options},
            )

        quiet = {"show_progress": "hidden", "trigger_mode": "multiple"}
        on(canvas.select, _click, [method, label, radius], shown, **quiet)
        on(gallery.select, _choose, [], shown, **quiet)
        on(undo.click, _undo, [method], shown, **quiet)
        on(clear.click, _clear, [method], shown, **quiet)
        on(mask_file.upload, _mask, [method, mask_file], shown)
        on(remove.click, _remove, [method], shown)
        on(upload.upload, _add, [upload], [*shown, upload])
        on(load.click, _sample, [sample, given], shown)
        on(anew.click, _start_anew, [], shown)
        on(
            adapt.click,
            _adapt,
            [method, steps],
            shown,
            show_progress_on=status,
            concurrency_id="adapt",
            concurrency_limit=1,
        )
        for button, link, write in (
            (masks, masks_link, Workspace.write_masks),
            (model, model_link, Workspace.write_model),
        ):
            on(
                button.click,
                lambda session, write=write: str(write(session.workspace)),
                [],
                [link],
            ).success(None, js=_click_on(link.elem_id), api_visibility="private")

        def choose_method(name: str):
            own = methods[name]
            slider = gr.Slider(value=own.steps or 1, visible=own.steps > 0)
            return gr.Dropdown(info=describe(own)), slider

        method.change(choose_method, method, [method, steps], api_visibility="private")
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
    session.index = event.index
    return view(session)


def _undo(session, method):
    session.workspace.undo(session.index)
    return _after_change(session, method)


def _clear(session, method):
    session.workspace.clear_marks(session.index)
    return _after_change(session, method)


def _mask(session, method, file):
    session.workspace.set_mask(session.index, Path(file).read_bytes())
    return _after_change(session, method)


def _remove(session, method):
    session.workspace.remove(session.index)
    return _after_change(session, method)


def _add(session, files):
    for file in files or []:
        path = Path(file)
        try:
            session.workspace.add(path.name, path.read_bytes())
        except UserError as error:
            gr.Warning(sentence(error))
    return *view(session), None


def _sample(session, name, given):
    workspace = session.workspace
    workspace.clear()
    session.index = 0
    for number, (file, image, mask) in enumerate(read_sample(name)):
        workspace.add(file, image, mask if given and number < _GIVEN else None)
    return view(session)


def _start_anew(session):
    session.workspace.clear()
    session.index = 0
    return view(session)


def _adapt(session, method, steps, progress=gr.Progress()):  # noqa: B008
    progress(0, desc="reading the pictures")

    def show(done: int, of: int) -> None:
        progress((done, of), desc="adapting", unit="steps")

    own = session.workspace.methods[method].steps
    session.workspace.adapt(method, int(steps) if own else 0, show)
    return view(session)


def _after_change(session, method):
    """With a method that is fast enough all masks follow each change."""
    workspace = session.workspace
    if not workspace.methods[method].live or not workspace.pictures:
        return view(session)
    try:
        workspace.adapt(method)
    except UserError as error:
        return view(session, sentence(error))
    return view(session)


def _click_on(elem_id: str) -> str:
    """JavaScript that follows a link once the page has put its file there."""
    return f"""() => setTimeout(() => {{
        const own = document.getElementById("{elem_id}");
        (own.closest("a") || own.querySelector("a") || own).click();
    }}, 300)"""
