"""What describes a run: its data, network, learner and outer loop."""

import dataclasses

from efficientlab_tf.config.points import DENSE, parse_points
from efficientlab_tf.config.settings import (
    MAX_CLASSES,
    MAX_STEPS,
    check,
    require,
    seed,
    setting,
    side,
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


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network. See `efficientlab_tf.models`.

    No network has all of these options; one that it lacks is refused.
    """

    network: str = setting(
        "efficientlab",
        "Architecture; closed_form, guided, oslsm and siamese are conditioned on a "
        "support set (`learner`=feedforward, siamese's siamese), the others adapt by "
        "gradients.",
        (
            *("efficientlab", "meta_drn", "fcn"),
            *("closed_form", "guided", "oslsm", "siamese"),
        ),
    )
    image_size: int = side(224, "Side of the square input, divisible by 32.")
    backbone: str = setting(
        "EfficientNetB0",
        "EfficientNetB0 to EfficientNetB7, or EfficientNetLite0; fcn, guided, oslsm "
        "and siamese: also VGG16.",
    )
    decoder: str = setting("rsd", "Decoder.", ("rsd", "auto_deeplab", "none"))
    rsd_stages: str = setting("3", "Stages with a residual skip decoder: 3, or 6,3.")
    residual: bool = setting(True, "Residual connection around each RSD module.")
    num_classes: int = setting(
        1,
        "Foreground classes that the network can tell apart.",
        least=1,
        most=MAX_CLASSES,
    )
    final_dropout: float = setting(
        0.2, "Dropout rate before the last convolution.", least=0, below=1
    )
    drop_connect: float = setting(
        0.2, "Drop-connect rate of the last encoder block.", least=0, below=1
    )
    weights: str = setting("", "Initial encoder weights.", ("", "imagenet"))
    width: float = setting(
        1.0, "VGG16: factor on all numbers of channels.", above=0, most=16
    )
    dilated: bool = setting(
        False, "guided, oslsm, siamese: VGG16 at stride 8 instead of 32."
    )
    hash_seed: int = seed("oslsm: seed of the weight hashing.")
    fusion: str = setting(
        "late_global",
        "guided: late_global; late keeps places, for `family`=interactive; early "
        "stacks images and annotations.",
        ("late_global", "late", "early"),
    )
    relation: str = setting(
        "stack",
        "guided: how a guide meets a query's features: stack (the paper), or product "
        "of both at unit length, through which only their likeness gets.",
        ("stack", "product"),
    )
    freeze_features: bool = setting(
        False,
        "closed_form, guided: the features stay as they are loaded; the rest is "
        "trained.",
    )
    freeze_classifiers: bool = setting(
        False,
        "closed_form: the linear classifiers' gains and regularisation stay as they "
        "start; the decoder alone is trained. Needs `freeze_features`.",
    )
    channels: int = setting(
        256, "guided: of the hidden layers that score features.", least=1, most=2**16
    )
    stages: str = setting(
        "4,6,7/2,3,4,6",
        "closed_form: sets of encoder stages out of 2 to 8; the features of each set "
        "have a linear classifier.",
    )
    newton_steps: int = setting(
        4,
        "closed_form: Newton steps of the logistic loss; 1 is ridge regression.",
        least=1,
        most=100,
    )

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """The meta-learning algorithm and its inner loop."""

    learner: str = setting(
        "fomaml",
        "Algorithm: of those that adapt by gradients fomaml, reptile, maml, meta_sgd, "
        "or joint (plain training on every example, the baseline of fine-tuning); of "
        "those that adapt in a forward pass feedforward, or siamese.",
        ("fomaml", "reptile", "maml", "meta_sgd", "joint", "feedforward", "siamese"),
    )
    first_order: bool = setting(
        False, "MAML and Meta-SGD: leave the second derivatives out."
    )
    second_order_from: int = setting(
        0,
        "MAML and Meta-SGD: leave them out until this meta-step (derivative-order "
        "annealing).",
        least=0,
    )
    multi_step_until: int = setting(
        0,
        "MAML and Meta-SGD: until this meta-step the query loss counts after every "
        "inner step, ever less before the last; 0: only after the last.",
        least=0,
    )
    inner_learning_rate: float = setting(
        0.005,
        "SGD learning rate of the inner loop; learned rates start there.",
        above=0,
    )
    inner_rates: str = setting(
        "fixed",
        "MAML: fixed, or learn a rate for each layer and inner step. (Meta-SGD learns "
        "one for each parameter.)",
        ("fixed", "per_step"),
    )
    inner_steps: int = setting(
        5,
        "SGD steps of the inner loop; FOMAML's last one is the step on the tail.",
        least=0,
        most=MAX_STEPS,
    )
    adapt: str = setting(
        "all",
        "What the inner loop changes: all, or the decoder alone (ANIL); the encoder "
        "is then still meta-learned.",
        ("all", "decoder"),
    )
    inner_batch: int = setting(
        8,
        "Examples per inner step, drawn epoch by epoch from the support set; "
        "0 takes the whole support set at each step.",
        least=0,
    )
    loss: str = setting(
        "bce_dice",
        "Loss; sum_cross_entropy adds up all pixels, as Shaban et al. do.",
        ("bce_dice", "cross_entropy", "sum_cross_entropy"),
    )
    l2: float = setting(
        5e-4, "Weight of the L2 term (batch norm excluded); 0 is off.", least=0
    )
    augmentation: str = setting(
        "efficientlab",
        "Recipe: efficientlab (translation, flip, erasing, noise, brightness) or "
        "meta_drn (flip, rotation, zoom, warp, lighting).",
        ("efficientlab", "meta_drn"),
    )
    augment_rate: float = setting(
        0.5,
        "Chance of each augmentation for each support image and inner step, in "
        "meta-training and meta-testing.",
        least=0,
        most=1,
    )
    episode_augment_rate: float = setting(
        0.0,
        "Chance of each augmentation for each support and query image of a training "
        "episode, once, before the inner loop.",
        least=0,
        most=1,
    )
    meta_optimizer: str = setting(
        "interpolate",
        "interpolate (the papers': theta + rate * displacement), or a Keras optimizer "
        "on the meta-gradient: sgd, adam, adamw, ...",
    )
    meta_learning_rate: float = setting(
        0.1, "Meta-learning rate at the first step.", least=0
    )
    meta_learning_rate_final: float = setting(
        1e-5,
        "Meta-learning rate at the last step; in between it changes linearly.",
        least=0,
    )
    momentum: float = setting(
        0.0, "Momentum of `meta_optimizer`=sgd.", least=0, below=1
    )
    conditioning_rate: float = setting(
        1.0,
        "feedforward: factor on the meta-learning rate of the branch that sees the "
        "support set (Shaban et al.: 0.1).",
        least=0,
    )
    batch_norm: str = setting(
        "support",
        "Statistics that batch normalization predicts with after adaptation, in "
        "validation and, unless told otherwise, in everything that the model is used "
        "for: those of the support set under the adapted weights, or running averages "
        "(the papers).",
        ("running", "support"),
    )
    halve_after: int = setting(
        0,
        "Halve the meta-learning rate when the best validation IoU is more than this "
        "many validations old, and again after as many more; 0: never.",
        least=0,
    )

    def __post_init__(self):
        check(self)
        least = 0 if self.learner in ("joint", "feedforward", "siamese") else 1
        require(
            self.inner_steps >= least,
            f"`inner_steps` must be at least {least} for {self.learner}, received "
            f"{self.inner_steps}",
        )
        require(
            self.momentum == 0 or self.meta_optimizer == "sgd",
            f"`momentum`={self.momentum} needs `meta_optimizer`=sgd, received "
            f"{self.meta_optimizer}",
        )
        require(
            self.inner_rates == "fixed" or self.learner == "maml",
            f"`inner_rates`={self.inner_rates} needs `learner`=maml, received "
            f"{self.learner}",
        )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The outer loop: how long, how often, where to."""

    run_dir: str = setting("", "Folder for checkpoints, flags and TensorBoard logs.")
    meta_steps: int = setting(50000, "Meta-steps of the whole run.", least=1)
    meta_batch: int = setting(5, "Tasks per meta-step.", least=1)
    reuse_episodes: int = setting(
        0,
        "feedforward: train on so many episodes again and again, and compute what is "
        "frozen once for each; 0: on new ones at every step.",
        least=0,
    )
    seed: int = seed("Seed of every random choice of the run.")
    validate_every: int = setting(500, "Meta-steps between validations.", least=1)
    val_episodes: int = setting(
        20,
        "Fixed validation episodes of each dataset (fewer classes: fewer).",
        least=1,
    )
    log_every: int = setting(20, "Meta-steps between TensorBoard scalars.", least=1)
    save_every: int = setting(500, "Meta-steps between checkpoints.", least=1)
    keep: int = setting(3, "Checkpoints to keep beside the best one.", least=1)
    max_bad_steps: int = setting(
        10,
        "Meta-steps in a row that may be skipped because a loss or a gradient was not "
        "finite, before training stops.",
        least=1,
    )
    jit: str = setting(
        "auto",
        "Compile meta-steps with XLA; auto does on a GPU and does not on a CPU, where "
        "it is several times slower. XLA draws other random numbers from a seed.",
        ("auto", "on", "off"),
    )

    def __post_init__(self):
        check(self)
