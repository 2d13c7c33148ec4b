"""The page itself, in Gradio: what is drawn where, and what a click does.

Each browser session has a `Workspace` of its own. Functions that compute take turns in
Gradio's queue; bad input comes back as a message on the page.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import gradio as gr

from efficientlab_tf.app import actions
from efficientlab_tf.app.annotations import FOREGROUND
from efficientlab_tf.app.classes import FIRST
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.downloads import write_annotations, write_masks, write_model
from efficientlab_tf.app.methods import Method
from efficientlab_tf.app.picture import color_of
from efficientlab_tf.app.project import SUFFIX, write_project
from efficientlab_tf.app.view import (
    BOX,
    BRUSH,
    POINT,
    POLYGON,
    WELCOME,
    describe,
)
from efficientlab_tf.app.workspace import Workspace
from efficientlab_tf.data.picture_files import IMAGE_SUFFIXES
from efficientlab_tf.data.samples import PHOTOGRAPHS, SHOTS, sample_names

TITLE = "Few-shot segmentation"
SUFFIXES = list(IMAGE_SUFFIXES)

_TOOLS = [
    ("Point (D)", POINT),
    ("Brush (R)", BRUSH),
    ("Box (X)", BOX),
    ("Polygon (G)", POLYGON),
]
_DOWNLOADS: dict[str, tuple[str, Callable[[Workspace], Path]]] = {
    "masks": ("Masks", write_masks),
    "coco": ("COCO", lambda own: write_annotations(own, "coco")),
    "labelme": ("LabelMe", lambda own: write_annotations(own, "labelme")),
    "model": ("Model", write_model),
    "project": ("Save project", write_project),
}
"""Elements of the page to their texts, and what writes the file."""
_HERE = Path(__file__).parent
SCRIPT = (_HERE / "page.js").read_text("utf-8")


def style(classes: int) -> str:
    """The page's style sheet, with the colours of so many classes."""
    rules = [(_HERE / "page.css").read_text("utf-8")]
    for label in range(classes + 1):
        color = "rgb({}, {}, {})".format(*color_of(label))
        where = f"#label label:nth-of-type({label + 1})"
        rules.append(f"{where}:not(:last-of-type) {{ --swatch: {color}; }}")
    return "\n".join(rules)


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
            "of them. Correct what is wrong, and repeat.",
            elem_id="title",
        )
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="sources", min_width=0):
                gr.Markdown("**1.** Pictures, or a project that you saved")
                upload = gr.File(
                    label="Pictures or a project",
                    show_label=False,
                    file_count="multiple",
                    file_types=[*SUFFIXES, SUFFIX],
                    height=64,
                    elem_id="upload",
                )
                with gr.Row(elem_id="samples"):
                    sample = gr.Dropdown(
                        sample_names(),
                        value=PHOTOGRAPHS,
                        label="Sample",
                        show_label=False,
                        container=False,
                        elem_id="sample",
                        min_width=120,
                        scale=3,
                    )
                    given = gr.Checkbox(
                        label=f"{SHOTS} masks",
                        value=True,
                        container=False,
                        elem_id="given",
                        min_width=84,
                        scale=0,
                    )
                    load = gr.Button("Load sample", size="sm", elem_id="load")
            with gr.Column(elem_id="work", min_width=0):
                with gr.Row(elem_id="tools"):
                    gr.Radio(
                        _TOOLS,
                        value=POINT,
                        label="Tool",
                        interactive=True,  # What no function takes would not be.
                        elem_id="tool",
                        scale=3,
                    )
                    radius = gr.Slider(
                        1,
                        30,
                        value=6,
                        step=1,
                        label="Brush in %",
                        buttons=[],
                        elem_id="radius",
                        min_width=160,
                        scale=1,
                    )
                with gr.Row(elem_id="classes"):
                    label = gr.Radio(
                        actions.labels([FIRST]),
                        value=FOREGROUND,
                        label="It marks",
                        elem_id="label",
                        scale=4,
                    )
                    class_name = gr.Textbox(
                        label="Name of a class",
                        show_label=False,
                        container=False,
                        placeholder="name",
                        max_lines=1,
                        elem_id="class_name",
                        min_width=80,
                        scale=1,
                    )
                    narrow = {"size": "sm", "min_width": 84, "scale": 0}
                    add = gr.Button("Add class", elem_id="add_class", **narrow)
                    rename = gr.Button("Rename", elem_id="rename_class", **narrow)
                canvas = gr.Image(
                    show_label=False,
                    type="numpy",
                    format="jpeg",
                    interactive=False,
                    buttons=[],
                    alt_text="The picture that is marked",
                    elem_id="canvas",
                )
                with gr.Row(elem_id="actions"):
                    small = {"size": "sm", "min_width": 40}
                    undo = gr.Button("Undo (Z)", elem_id="undo", **small)
                    back = gr.Button("Back (P)", elem_id="back", **small)
                    forth = gr.Button("Next (N)", elem_id="forth", **small)
                    plain = gr.Button("Masks (M)", elem_id="plain", **small)
                    larger = gr.Button("Zoom +", elem_id="larger", **small)
                    smaller = gr.Button("Zoom -", elem_id="smaller", **small)
                    clear = gr.Button("Clear", elem_id="clear", **small)
                    mask_file = gr.UploadButton(
                        "Mask file", file_types=SUFFIXES, elem_id="mask_file", **small
                    )
                    remove = gr.Button("Remove", elem_id="remove", **small)
            with gr.Column(elem_id="control", min_width=0):
                gr.Markdown("**2.** A method that learns from your marks")
                method = gr.Dropdown(
                    list(methods),
                    value=first,
                    label="Method",
                    show_label=False,
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
                    "3. Adapt and segment all",
                    variant="primary",
                    size="md",
                    elem_id="adapt",
                )
                status = gr.Markdown(WELCOME, elem_id="status", container=True)
                with gr.Row(elem_id="downloads"):
                    buttons = [
                        gr.Button(text, elem_id=name, size="sm", min_width=60)
                        for name, (text, _) in _DOWNLOADS.items()
                    ]
                    anew = gr.Button(
                        "Start anew", size="sm", elem_id="anew", min_width=60
                    )
                links = [
                    gr.DownloadButton(
                        "file", elem_id=f"{name}_link", elem_classes="behind"
                    )
                    for name in _DOWNLOADS
                ]
                gesture = gr.Textbox(
                    label="Gesture", elem_id="gesture", elem_classes="behind"
                )
        gr.Markdown(
            "**All pictures**: the marked ones, with the number of marks; then those "
            "worth marking next, the one first that the method is least sure of",
            elem_id="all",
        )
        gallery = gr.Gallery(
            label="All pictures",
            show_label=False,
            columns=50,
            rows=1,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="contain",
            format="jpeg",
            buttons=[],
            elem_id="gallery",
        )
        shown = [canvas, gallery, status, label]
        private = {"api_visibility": "private"}

        def on(event: Callable, function: Callable, inputs: list, outputs: list, **how):
            how = {"concurrency_id": "quick", "concurrency_limit": 4, **private, **how}
            own = actions.friendly(function, lambda: Workspace(methods, config, folder))
            return event(own, [session, *inputs], [session, *outputs], **how)

        quiet = {"show_progress": "hidden", "trigger_mode": "multiple"}
        on(
            gesture.change,
            actions.act,
            [method, label, radius, gesture],
            shown,
            **quiet,
        )
        on(gallery.select, actions.choose, [], shown, **quiet)
        for button, look in (
            (back, lambda session: session.step_on(-1)),
            (forth, lambda session: session.step_on(1)),
            (plain, actions.show_or_hide),
            (larger, lambda session: session.zoom_by(1)),
            (smaller, lambda session: session.zoom_by(-1)),
        ):
            on(button.click, actions.looking(look), [], shown, **quiet)
        on(undo.click, actions.changing(Workspace.undo), [method], shown, **quiet)
        on(
            clear.click,
            actions.changing(Workspace.clear_marks),
            [method],
            shown,
            **quiet,
        )
        given_mask = [method, mask_file, label]
        on(mask_file.upload, actions.changing(actions.set_mask), given_mask, shown)
        on(remove.click, actions.changing(Workspace.remove), [method], shown)
        for event in (add.click, class_name.submit):
            on(event, actions.add_class, [class_name], [class_name, *shown], **quiet)
        renaming = [class_name, label]
        on(rename.click, actions.rename_class, renaming, [class_name, *shown], **quiet)
        on(upload.upload, actions.add, [method, upload], [upload, *shown])
        on(load.click, actions.sample, [method, sample, given], shown)
        on(anew.click, actions.start_anew, [], shown)
        alone = {"concurrency_id": "adapt", "concurrency_limit": 1}
        progress = {"show_progress_on": status}
        on(adapt.click, actions.adapt, [method, steps], shown, **alone, **progress)
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

        page.load(None, js=SCRIPT)
        method.change(choose_method, method, [method, steps], **private)
    return page.queue(max_size=config.max_waiting, api_open=False)


def _click_on(elem_id: str) -> str:
    """JavaScript that follows a link once the page has put its file there."""
    return f"""() => setTimeout(() => {{
        const own = document.getElementById("{elem_id}");
        (own.closest("a") || own.querySelector("a") || own).click();
    }}, 300)"""
