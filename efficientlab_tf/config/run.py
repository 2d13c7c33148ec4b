"""What describes a run: its network, learner and outer loop; see also `data`."""

import dataclasses

from efficientlab_tf.config.settings import (
    MAX_CLASSES,
    MAX_STEPS,
    check,
    require,
    seed,
    setting,
    side,
)


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
        "EfficientNetB0 to B7, or EfficientNetLite0 or Lite2; fcn, guided, oslsm "
        "and siamese: also VGG16 and AlexNet; closed_form and guided: also hub:PRESET "
        "of KerasHub, with `freeze_features`.",
    )
    last_stage: int = setting(
        6,
        "efficientlab: stage that the encoder ends with; 6 in the paper, at most 8.",
        least=6,
        most=8,
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
    weights: str = setting(
        "",
        "Initial encoder weights: imagenet; of AlexNet an .npz file, see "
        "models/alexnet.py; empty: random.",
    )
    width: float = setting(
        1.0, "VGG16, AlexNet: factor on all numbers of channels.", above=0, most=16
    )
    dilated: bool = setting(
        False, "guided, oslsm, siamese: VGG16 at stride 8 instead of 32."
    )
    hash_seed: int = seed("oslsm: seed of the weight hashing.")
    fusion: str = setting(
        "late_global",
        "guided: late_global; early stacks images and annotations; late and "
        "early_local keep places, for `family`=interactive.",
        ("late_global", "late", "early", "early_local"),
    )
    relation: str = setting(
        "stack",
        "guided: how a guide meets a query's features: stack (the paper), or product "
        "of both at unit length, through which only their likeness gets.",
        ("stack", "product"),
    )
    freeze_features: bool = setting(
        False,
        "closed_form, efficientlab, guided: the encoder stays as it is loaded; the "
        "rest is trained.",
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
    weight_decay: float = setting(
        0.004,
        "Weight decay of `meta_optimizer`=adamw: each step takes this part of every "
        "weight away, times the meta-learning rate.",
        least=0,
    )
    encoder_rate: float = setting(
        1.0,
        "Factor on the meta-learning rate of all that lies before the decoder: 0.1 "
        "changes what ImageNet taught the encoder slowly.",
        least=0,
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
    start_from: str = setting(
        "",
        "Model whose weights training starts from: a shipped one's name, a run's "
        "folder or a .keras file, of the same network at any image size. Learned rates "
        "are not taken.",
    )
    meta_steps: int = setting(50000, "Meta-steps of the whole run.", least=1)
    meta_batch: int = setting(5, "Tasks per meta-step.", least=1)
    reuse_episodes: int = setting(
        0,
        "Train on so many episodes again and again, and compute what is frozen "
        "(`freeze_features`) once for each; 0: on new ones at every step.",
        least=0,
    )
    seed: int = seed("Seed of every random choice of the run.")
    validate_every: int = setting(500, "Meta-steps between validations.", least=1)
    val_episodes: int = setting(
        20,
        "Fixed validation episodes of each dataset (fewer classes: fewer).",
        least=1,
    )
    best_by: str = setting(
        "per_image_iou",
        "Measure of the validation that chooses the best checkpoint, and that "
        "`halve_after` goes by: per_image_iou, or soft_iou, which is not thresholded "
        "and steadier (Banerjee 2020, section V).",
        ("per_image_iou", "soft_iou"),
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
    strategy: str = setting(
        "one",
        "What computes the tasks of a meta-step: one device; mirrored, all GPUs of "
        "this machine; or multi_worker, all GPUs of the machines that the environment "
        "variable TF_CONFIG names, with this command on each.",
        ("one", "mirrored", "multi_worker"),
    )
    cpu_replicas: int = setting(
        0,
        "`strategy`=mirrored on a machine without a GPU: into how many devices its CPU "
        "is divided; 0: one.",
        least=0,
        most=64,
    )
    deterministic: bool = setting(
        False,
        "Only kernels that always compute the same to the last bit, which are slower "
        "on a GPU: there the same `seed` gives the same weights no other way. On a CPU "
        "it does so anyway.",
    )

    def __post_init__(self):
        check(self)
