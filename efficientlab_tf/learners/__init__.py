"""Learners: how the initialization that a segmenter starts from is meta-learned."""

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import Learner, MetaState
from efficientlab_tf.learners.feedforward import Feedforward
from efficientlab_tf.learners.fomaml import FOMAML
from efficientlab_tf.learners.joint import Joint
from efficientlab_tf.learners.maml import MAML
from efficientlab_tf.learners.maml_plus_plus import MAMLPlusPlus, has_options
from efficientlab_tf.learners.meta_sgd import MetaSGD
from efficientlab_tf.learners.reptile import Reptile
from efficientlab_tf.learners.siamese import Siamese
from efficientlab_tf.models.conditioned import is_conditioned
from efficientlab_tf.segmenters.inner_loop import Augment
from efficientlab_tf.segmenters.network import Network

__all__ = [
    "FOMAML",
    "LEARNERS",
    "MAML",
    "MAMLPlusPlus",
    "Feedforward",
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
    augment: Augment | None = None,
    augment_episodes: Augment | None = None,
) -> Learner:
    """Builds the learner that `config.learner` names; see `Learner`.

    Raises:
      UserError: no such learner.
    """
    if config.learner not in LEARNERS:
        raise UserError(
            f"--learner must be one of {', '.join(LEARNERS)}; received "
            f"{config.learner!r}"
        )
    learner = LEARNERS[config.learner]
    if learner is MAML and has_options(config):
        learner = MAMLPlusPlus
    forward = issubclass(learner, Feedforward)
    if is_conditioned(network.model) and not forward:
        raise UserError(
            f"--model={network.model.name} is conditioned on a support set and has no "
            f"inner loop, received --learner={config.learner}: give "
            "--learner=feedforward, or siamese for the siamese network"
        )
    return learner(
        network,
        config,
        meta_steps=meta_steps,
        seed=seed,
        augment=augment,
        augment_episodes=augment_episodes,
    )
