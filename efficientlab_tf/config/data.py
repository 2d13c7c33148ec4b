"""What describes the data of a run or of a meta-test."""

import dataclasses

from efficientlab_tf.config.points import DENSE, parse_points
from efficientlab_tf.config.settings import (
    MAX_CLASSES,
    MAX_SIDE,
    check,
    check_value,
    require,
    setting,
)

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
    photometric_rate: float = setting(
        0.0,
        "Chance for each image of a training episode that its brightness, contrast, "
        "saturation and hue change, in support and query apart.",
        least=0,
        most=1,
    )
    blur_rate: float = setting(
        0.0,
        "Chance for each image of a training episode that it loses its detail, as if "
        "enlarged from a smaller one.",
        least=0,
        most=1,
    )
    part_rate: float = setting(
        0.0,
        "Chance that a training episode asks for a part of the objects, on one side of "
        "a line: the upper third, for example.",
        least=0,
        most=1,
    )
    region_rate: float = setting(
        0.0,
        "Chance that a training episode asks for what has the colour and texture of a "
        "place in a support image, instead of the objects.",
        least=0,
        most=1,
    )
    union_rate: float = setting(
        0.0,
        "Chance that a training episode asks for the objects of two classes, each in "
        "half of the images.",
        least=0,
        most=1,
    )
    image_sizes: str = setting(
        "",
        "Sides of training images in pixels, each divisible by 32, of which one is "
        "drawn for each meta-step: 128,192,256,320; empty: `image_size` for all.",
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
        for name in ("part_rate", "region_rate", "union_rate"):
            own = {"ways": 1, "family": "class", "draw": "class", "labels": "episode"}
            for other, value in own.items() if getattr(self, name) else ():
                require(
                    getattr(self, other) == value,
                    f"`{name}` needs `{other}`={value}, received "
                    f"{getattr(self, other)}: leave it out",
                )
        require(
            not self.union_rate or self.shots > 1,
            f"`union_rate` needs `shots` from 2, received {self.shots}: a support set "
            "shows both classes; leave it out",
        )
        for size in self.sizes:
            check_value("image_sizes", size, int, least=32, most=MAX_SIDE, multiple=32)
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
    def sizes(self) -> tuple[int, ...]:
        """Sides of training images in pixels; () for the network's own."""
        parts = self.image_sizes.split(",") if self.image_sizes else ()
        try:
            sizes = tuple(int(part) for part in parts)
        except ValueError:
            sizes = (0, 0)
        require(
            len(set(sizes)) == len(sizes),
            "`image_sizes` must be different whole numbers joined by commas, as "
            f"128,192,256, received {self.image_sizes!r}",
        )
        return sizes

    @property
    def same_images(self) -> bool:
        """Whether the query images are the support images."""
        return self.family in SAME_IMAGES

    @property
    def cache_bytes(self) -> int | None:
        """The cache budget in bytes; None stands for half of the free memory."""
        return None if self.cache_gb < 0 else int(self.cache_gb * 2**30)
