"""What describes the data of a run or of a meta-test."""

import dataclasses

from efficientlab_tf.config.points import DENSE, parse_points
from efficientlab_tf.config.settings import MAX_CLASSES, check, require, setting

FAMILIES = ("class", "interactive", "instance")
"""What a task asks about; see `efficientlab_tf.data.episodes`."""
SAME_IMAGES = ("interactive", "instance")
"""Families whose query images are the support images."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples an episode is drawn from, and how many."""

    dataset_dir: str = setting(
        "",
        "Folder with dataset.json and shards, or sample:icons, sample:nuclei; to train "
        "on several, with how often one is drawn: datasets/icons:1,datasets/caltech:2.",
    )
    splits: str = setting(
        "",
        "Class lists to use instead of the dataset's own: fss1000, fss1000_520, "
        "fss1000_700, icons, fpk, train=FILE,val=FILE,test=FILE, or fold0 to fold3 of "
        "a dataset with folds.",
    )
    train_split: str = setting("train", "Split to meta-train on.")
    val_split: str = setting("val", "Split for validation; empty for none.")
    shots: int = setting(5, "Support examples per class and episode.", least=1)
    queries: int = setting(
        5,
        "Query examples per class and episode in meta-training (FOMAML's tail).",
        least=1,
    )
    ways: int = setting(1, "Foreground classes per episode.", least=1, most=MAX_CLASSES)
    points: str = setting(
        DENSE,
        "Annotated pixels of each class and of the background in a support mask, the "
        "rest unknown: 5, or 1-100 for a number drawn for each episode; -1: all.",
    )
    family: str = setting(
        "class",
        "What a task asks about: other images of the support's class (video: classes "
        "are sequences), or the support images themselves, of which a part is "
        "annotated: its class (interactive) or one object (instance).",
        FAMILIES,
    )
    labels: str = setting(
        "episode",
        "What a class's number in training masks is: its place in the episode; or its "
        "place in the list of all training classes (dataset), with every class that a "
        "picture shows: ordinary training of a network of many classes, which needs "
        "`learner`=joint, `num_classes` and no `val_split`.",
        ("episode", "dataset"),
    )
    draw: str = setting(
        "class",
        "What a training task is drawn by: class, each as often as any other; or "
        "image: a picture, each as often as any other, and one of its classes; it is "
        "a query, of other images of the class (Shaban et al., section 4.3).",
        ("class", "image"),
    )
    label_swap_rate: float = setting(
        0.0,
        "Chance that a training episode has foreground and background exchanged, in "
        "support and query alike, so that the support set must be read.",
        least=0,
        most=1,
    )
    zoom_out_rate: float = setting(
        0.0,
        "Chance for each image of a training episode that it is shrunk and surrounded "
        "by its mirror images: many small objects.",
        least=0,
        most=1,
    )
    paste_rate: float = setting(
        0.0,
        "Chance for each image of a training episode that its objects are cut out, "
        "shrunk and put onto an image of another class.",
        least=0,
        most=1,
    )
    cache_gb: float = setting(
        -1.0,
        "Memory for decoded images, in GB; -1 is half of what is free. What does not "
        "fit is decoded again at each draw.",
        least=-1,
        most=1e6,
    )

    def __post_init__(self):
        check(self)
        require(
            self.ways == 1 or not self.label_swap_rate,
            f"`label_swap_rate` needs `ways`=1, received `ways`={self.ways}: leave it "
            "out",
        )
        own = {"ways": 1, "points": DENSE, "family": "class", "label_swap_rate": 0.0}
        for name, value in own.items() if self.labels == "dataset" else ():
            require(
                getattr(self, name) == value,
                f"`labels`=dataset needs `{name}`={value}, received "
                f"{getattr(self, name)}: leave it out",
            )
        require(
            self.draw == "class" or self.ways == 1,
            f"`draw`=image needs `ways`=1, received `ways`={self.ways}: an image is of "
            "one task",
        )
        require(
            self.family != "instance" or self.ways == 1,
            f"`family`=instance needs `ways`=1, received `ways`={self.ways}: an object "
            "is a task of its own",
        )
        parse_points(self.points)

    @property
    def point_range(self) -> tuple[int, int] | None:
        """Smallest and largest number of points; None for dense masks."""
        return parse_points(self.points)

    @property
    def same_images(self) -> bool:
        """Whether the query images are the support images."""
        return self.family in SAME_IMAGES

    @property
    def cache_bytes(self) -> int | None:
        """The cache budget in bytes; None stands for half of the free memory."""
        return None if self.cache_gb < 0 else int(self.cache_gb * 2**30)
