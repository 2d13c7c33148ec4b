"""The command line of `python -m efficientlab_tf.app`."""

import dataclasses

from efficientlab_tf.config import setting
from efficientlab_tf.config.settings import MAX_STEPS, check

MODELS = (
    "photos_closed_form_lite0",
    "linear",
    "logistic_regression",
    "icons_fomaml_lite0",
)
"""What is offered if nothing is named: shipped models, and one that needs none."""


@dataclasses.dataclass(frozen=True)
class AppConfig:
    """What the page offers, and its limits."""

    model: str = setting(
        "",
        "Models to choose from, joined by commas: shipped models, runs' folders, "
        ".keras files, or methods that need no model, such as logistic_regression. "
        "Empty: "
        f"{', '.join(MODELS)}.",
    )
    host: str = setting(
        "127.0.0.1",
        "Address to listen on. Any other than this lets people on the network in: the "
        "page has no passwords.",
    )
    port: int = setting(7860, "Port to listen on.", least=1, most=65535)
    threshold: float = setting(
        0.5,
        "Foreground probability above which a pixel is of the object.",
        above=0,
        below=1,
    )
    max_steps: int = setting(
        100,
        "Most steps of adaptation that a user may ask for.",
        least=1,
        most=MAX_STEPS,
    )
    max_upload_mb: float = setting(
        20.0, "Largest file that is taken, in megabytes.", above=0
    )
    max_batch_mb: float = setting(
        200.0, "Most that files dropped in together may have, in megabytes.", above=0
    )
    max_megapixels: float = setting(
        40.0,
        "Largest picture that is decoded; its header says how large it is.",
        above=0,
    )
    max_classes: int = setting(20, "Most classes of one user.", least=1, most=254)
    max_pictures: int = setting(50, "Most pictures of one user.", least=1)
    idle_minutes: int = setting(
        120,
        "A user's pictures are forgotten when nothing was done for so long.",
        least=1,
    )
    max_waiting: int = setting(
        32,
        "Most requests that may wait for their turn; others are told to come again.",
        least=1,
    )

    def __post_init__(self):
        check(self)

    @property
    def models(self) -> tuple[str, ...]:
        """`model` as names and paths."""
        given = tuple(part.strip() for part in self.model.split(",") if part.strip())
        return given or MODELS
