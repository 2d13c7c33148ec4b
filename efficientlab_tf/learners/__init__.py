"""Learners: algorithms that meta-learn the initialization of a segmenter."""

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import GradientLearner, Learner, MetaState
from efficientlab_tf.learners.feedforward import Feedforward
from efficientlab_tf.learners.fomaml import FOMAML
from efficientlab_tf.learners.joint import Joint
from efficientlab_tf.learners.maml import MAML
from efficientlab_tf.learners.maml_plus_plus import MAMLPlusPlus, has_options
from efficientlab_tf.learners.meta_sgd import MetaSGD
from efficientlab_tf.learners.reptile import Reptile
from efficientlab_tf.learners.siamese import Siamese
from efficientlab_tf.losses import Loss
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.inner_loop import Augment
from efficientlab_tf.segmenters.network import Network

__all__ = [
    "FOMAML",
    "LEARNERS",
    "MAML",
    "MAMLPlusPlus",
    "Feedforward",
    "GradientLearner",
    "Joint",
    "Learner",
    "MetaSGD",
    "MetaState",
    "Reptile",
    "Siamese",
    "build_learner",
]

LEARNERS: dict[str, type[Learner]] = {
    "fomaml": FOMAML,
    "reptile": Reptile,
    "maml": MAML,
    "meta_sgd": MetaSGD,
    "joint": Joint,
    "feedforward": Feedforward,
    "siamese": Siamese,
}


def build_learner(
    network: Network,
    config: LearnerConfig,
    *,
    meta_steps: int,
    seed: int = 0,
    objective: Loss | None = None,
    augment: Augment | None = None,
    augment_episodes: Augment | None = None,
) -> Learner:
    """Builds the learner that `config.learner` names.

    Args:
      network: the network to train.
      config: algorithm, loss, inner loop and meta-optimizer.
      meta_steps: length of the run, for the annealing of the meta-learning rate.
      seed: of every random choice of meta-training.
      objective: a loss of your own, instead of the one that `config.loss` names:
        objective(logits, masks) -> scalar, with float logits [n, H, W, K+1], channel 0
        the background, and uint8 masks [n, H, W] of 0..K, 255 where the label is
        unknown. `config.l2` is added to it.
      augment: called as augment(images, masks, seed) on the mini-batches of the inner
        loop; not used by learners without one.
      augment_episodes: the same, called once on the support and once on the query set
        of each task.

    Returns:
      The learner; MAML with options of MAML++ is a `MAMLPlusPlus`.

    Raises:
      UserError: no such learner, or one that does not fit the network or `config`.
    """
    if config.learner not in LEARNERS:
        raise UserError(
            f"`learner` must be one of {', '.join(LEARNERS)}, received "
            f"{config.learner!r}"
        )
    learner = LEARNERS[config.learner]
    if learner is MAML and has_options(config):
        learner = MAMLPlusPlus
    forward = issubclass(learner, Feedforward)
    if is_conditioned(network.model) and not forward:
        raise UserError(
            f"`learner` must be feedforward, or siamese, for network "
            f"{network.model.name}, received {config.learner}: a network that is "
            "conditioned on a support set has no inner loop"
        )
    options = {
        "meta_steps": meta_steps,
        "seed": seed,
        "objective": objective,
        "augment_episodes": augment_episodes,
    }
    if issubclass(learner, GradientLearner):
        options["augment"] = augment
    return learner(network, config, **options)
