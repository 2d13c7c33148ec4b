"""The command line of `python -m efficientlab_tf.video`."""

import dataclasses

from efficientlab_tf.config import setting
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.config.settings import check, require, seed, side
from efficientlab_tf.data.sources.davis import RESOLUTION

MODELS_OWN = "model"
_OWN = (MODELS_OWN, "checkpoint")
VIDEOS = ("gif", "mp4", "none")


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    """One video (sequence), or all of a folder in DAVIS's layout (davis)."""

    model: str = setting(
        "",
        "What segments: a shipped model's name, a run's folder, a .keras file, or a "
        "baseline's name.",
    )
    sequence: str = setting("", "Folder of one video's frames, in natural order.")
    annotation: str = setting(
        "",
        "What is the object: a mask of the first frame (255, or indices 1..K with 255 "
        "for unknown), with masks of later frames, named like these, for objects that "
        "enter later, joined by commas or as a folder; or JSON: "
        '{"points": [{"frame": 0, "x": 10, "y": 20, "label": 1}]}; label 0 is what is '
        "not the object.",
    )
    annotations: str = setting(
        "", "Folder of masks named like the frames, to measure J and F."
    )
    davis: str = setting(
        "", "Instead of `sequence`: folder with JPEGImages and Annotations."
    )
    resolution: str = setting(RESOLUTION, "Of `davis`: folder of a resolution.")
    split: str = setting(
        "", "Of `davis`: list in ImageSets, such as 2017/val; empty: all sequences."
    )
    sequences: str = setting(
        "", "Of `davis`: sequences to keep to, joined by commas; empty: all."
    )
    shots: str = setting(
        "1",
        "Of `davis`: numbers of annotated frames, the first and others evenly spread, "
        "joined by commas; all others are measured.",
    )
    points: str = setting(
        DENSE,
        "Of `davis`: numbers of annotated pixels of each object and of the background "
        "in an annotated frame, drawn at random, joined by commas; -1: whole masks.",
    )
    methods: str = setting(
        "",
        "Of `davis`, instead of `model`: methods as in efficientlab_tf.compare, joined "
        "by commas, such as fine_tuned=runs/x:inner_steps=20,nearest_neighbour.",
    )
    output: str = setting("", "Folder for masks, videos and measures.")
    steps: str = setting(
        MODELS_OWN,
        "Steps of fine-tuning: a number, or model: as it was trained or tuned. With "
        "`davis` also several numbers joined by commas, each a method.",
    )
    online: int = setting(
        0,
        "After so many frames the pixels of the latest one that the prediction is "
        "certain of (0.97) join the support set; 0: never.",
        least=0,
    )
    threshold: float = setting(
        0.5,
        "Foreground probability above which a pixel counts, for one object.",
        above=0,
        below=1,
    )
    video: str = setting("gif", "Overlay video; mp4 needs imageio-ffmpeg.", VIDEOS)
    fps: float = setting(
        12.0, "Frames a second of the overlay video.", above=0, most=100
    )
    baseline_size: int = side(224, "Side of the pictures of baselines.")
    seed: int = seed("Of mini-batches, augmentation and dropout.")

    def __post_init__(self):
        check(self)
        parts = self.steps.split(",")
        require(
            all(part in _OWN or part.isdecimal() for part in parts)
            and len(set(parts)) == len(parts),
            f"`steps` must be a number or {MODELS_OWN}, with `davis` also several "
            f"joined by commas; received {self.steps!r}",
        )
        require(
            bool(self.davis) or len(parts) == 1,
            f"`steps`={self.steps} are several numbers, which need `davis`",
        )
        require(
            bool(self.output),
            "`output` is needed: a folder for results",
        )
        require(
            bool(self.davis) != bool(self.sequence),
            "either `sequence` with `annotation` is needed, or `davis`",
        )
        shots, points = self.shots.split(","), self.points.split(",")
        require(
            all(part.isdecimal() and int(part) > 0 for part in shots),
            f"`shots` must be numbers from 1 joined by commas, received {self.shots!r}",
        )
        require(
            all(p == DENSE or p.isdecimal() and int(p) > 0 for p in points),
            "`points` must be numbers from 1, or -1 for whole masks, joined by commas, "
            f"received {self.points!r}",
        )
        require(
            bool(self.davis) or (self.shots, self.points) == ("1", DENSE),
            "`shots` and `points` have no effect: they need `davis`",
        )
        if self.davis:
            self._exclude("annotation", "annotations", because="`davis` has its own")
            require(
                bool(self.methods) != bool(self.model),
                "either `model` is needed, or `methods`",
            )
        else:
            self._exclude("methods", "split", "sequences", because="it needs `davis`")
            require(bool(self.model), "`model` is needed: what segments")
            require(bool(self.annotation), "`annotation` is needed: what is the object")
        if self.methods:
            require(
                self.steps in _OWN,
                "`steps` has no effect: write the settings into `methods`",
            )

    @property
    def step_numbers(self) -> tuple[int | None, ...]:
        """`steps` as numbers; None for the model's own."""
        parts = self.steps.split(",")
        return tuple(None if part in _OWN else int(part) for part in parts)

    @property
    def supports(self) -> tuple[tuple[int, int], ...]:
        """Pairs of annotated frames and points in each; -1 points are whole masks."""
        shots, points = (t.split(",") for t in (self.shots, self.points))
        return tuple((int(s), int(p)) for s in shots for p in points)

    @property
    def sequence_names(self) -> tuple[str, ...]:
        """`sequences` as names."""
        return tuple(n.strip() for n in self.sequences.split(",") if n.strip())

    def _exclude(self, *names: str, because: str) -> None:
        for name in names:
            require(not getattr(self, name), f"`{name}` has no effect: {because}")
