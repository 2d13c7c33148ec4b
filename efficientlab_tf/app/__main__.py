"""Opens the annotation page in a browser: click, see masks, correct, download.

    python -m efficientlab_tf.app --model=runs/mine,icons_fomaml_lite0

then http://127.0.0.1:7860. Pictures stay on this machine: nothing is sent anywhere
else, and what users upload is deleted when they leave for long, or when this ends.
"""

import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

from efficientlab_tf import flags
from efficientlab_tf.app.config import AppConfig
from efficientlab_tf.app.methods import TURN, load_methods, warm_up
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.errors import UserError


def serve(config: AppConfig, settings: Settings = OWN) -> None:
    """Serves the page until it is interrupted.

    Raises:
      UserError: no Gradio, no such model, or the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(
            "the page needs Gradio: pip install 'efficientlab_tf[app]', or in a "
            "checkout pip install -c constraints.txt -e '.[app]'"
        ) from error
    from efficientlab_tf.app.page import build_page, style
    from efficientlab_tf.app.uploads import batch_limit

    check_address(config)
    methods = load_methods(config.models, settings)

    def prepare() -> None:
        for method in sorted(methods.values(), key=lambda method: not method.live):
            warm_up(method)

    with tempfile.TemporaryDirectory(
        prefix="efficientlab_app_", ignore_cleanup_errors=True
    ) as folder:
        users = Path(folder) / "users"
        users.mkdir()
        # Of Gradio's own: uploads and whatever it serves.
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "cache")
        page = build_page(methods, config, users)
        threading.Thread(target=prepare, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"methods: {', '.join(methods)}")
        print(f"open http://{config.host}:{config.port} (Ctrl-C ends)")
        try:
            page.launch(
                server_name=config.host,
                server_port=config.port,
                share=False,
                quiet=True,
                footer_links=[],
                # A picture has less, but a project holds many.
                max_file_size=round(config.max_batch_mb * 1e6),
                app_kwargs={"middleware": [batch_limit(config)]},
                enable_monitoring=False,
                ssr_mode=False,
                theme=gr.themes.Default(
                    **dict.fromkeys(("primary_hue", "secondary_hue"), "indigo"),
                    **dict.fromkeys(("spacing_size", "text_size", "radius_size"), "sm"),
                    neutral_hue="slate",
                    font=["system-ui", "sans-serif"],
                    font_mono=["monospace"],
                ),
                css=style(config.max_classes),
            )
        except OSError as error:
            # Somebody else was faster.
            raise _taken(config, error) from error
        finally:
            # Never given back: Python must not end in the middle of TensorFlow, which
            # would abort.
            TURN.acquire()


def check_address(config: AppConfig) -> None:
    """Tries the address, before anything is loaded.

    Raises:
      UserError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        with socket.socket(family) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind((config.host, config.port))
    except OSError as error:
        raise _taken(config, error) from error


def _taken(config: AppConfig, error: OSError) -> UserError:
    return UserError(
        f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; "
        "choose another `host` or `port`"
    )


def main() -> None:
    """Serves as the flags say."""
    serve(flags.read(AppConfig), flags.read(Settings))


def define_flags() -> None:
    """Defines this command's flags."""
    flags.define(AppConfig)
    flags.define(Settings, only=("batch_norm", "learning_rate"))


if __name__ == "__main__":
    define_flags()
    flags.run(main)
