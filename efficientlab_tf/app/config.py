"""The command line of `python -m efficientlab_tf.app`."""

import dataclasses

from efficientlab_tf.config import setting
from efficientlab_tf.config.settings import at_least, between_0_and_1, check

MODELS = ("icons_guided_product_lite0", "icons_fomaml_lite0", "logistic_regression")
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
    port: int = setting(7860, "Port to listen on.")
    threshold: float = setting(
        0.5, "Foreground probability above which a pixel is of the object."
    )
    max_steps: int = setting(100, "Most steps of adaptation that a user may ask for.")
    max_upload_mb: float = setting(20.0, "Largest file that is taken, in megabytes.")
    max_megapixels: float = setting(
        40.0, "Largest picture that is decoded; its header says how large it is."
    )
    max_pictures: int = setting(50, "Most pictures of one user.")
    idle_minutes: int = setting(
        120, "A user's pictures are forgotten when nothing was done for so long."
    )
    max_waiting: int = setting(
        32, "Most requests that may wait for their turn; others are told to come again."
    )

    def __post_init__(self):
        check(self, "port", "be from 1 to 65535", lambda v: 1 <= v <= 65535)
        between_0_and_1(self, "threshold")
        check(self, "max_upload_mb max_megapixels", "be positive", lambda v: v > 0)
        at_least(self, 1, "max_steps max_pictures idle_minutes max_waiting")

    @property
    def models(self) -> tuple[str, ...]:
        """`model` as names and paths."""
        given = tuple(part.strip() for part in self.model.split(",") if part.strip())
        return given or MODELS
