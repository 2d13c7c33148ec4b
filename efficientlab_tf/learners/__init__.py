"""Learners: how a segmenter is learned, and how it adapts to a support set."""

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import Learner, MetaState
from efficientlab_tf.learners.early_stopping import EarlyStop, early_stopping
from efficientlab_tf.learners.feedforward import (
    Feedforward,
    ForwardFunctions,
    ForwardSegmenter,
    Guided,
)
from efficientlab_tf.learners.fomaml import FOMAML
from efficientlab_tf.learners.guidance import (
    Guidance,
    GuidedFunctions,
    GuidedSegmenter,
    Queries,
)
from efficientlab_tf.learners.inner_loop import Augment, InnerLoop
from efficientlab_tf.learners.joint import Joint
from efficientlab_tf.learners.maml import MAML
from efficientlab_tf.learners.meta_sgd import MetaSGD
from efficientlab_tf.learners.network import Network, Weights
from efficientlab_tf.learners.reptile import Reptile
from efficientlab_tf.learners.segmenter import (
    AdaptFunctions,
    GradientSegmenter,
    Segmenter,
)
from efficientlab_tf.learners.siamese import Siamese
from efficientlab_tf.models.conditioned import is_conditioned

__all__ = [
    "FOMAML",
    "LEARNERS",
    "MAML",
    "AdaptFunctions",
    "EarlyStop",
    "Feedforward",
    "ForwardFunctions",
    "ForwardSegmenter",
    "GradientSegmenter",
    "Guidance",
    "Guided",
    "GuidedFunctions",
    "GuidedSegmenter",
    "InnerLoop",
    "Joint",
    "Learner",
    "MetaSGD",
    "MetaState",
    "Network",
    "Queries",
    "Reptile",
    "Segmenter",
    "Siamese",
    "Weights",
    "build_learner",
    "early_stopping",
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
    forward = issubclass(LEARNERS[config.learner], Feedforward)
    if is_conditioned(network.model) and not forward:
        raise UserError(
            f"--model={network.model.name} is conditioned on a support set and has no "
            f"inner loop, received --learner={config.learner}: give "
            "--learner=feedforward, or siamese for the siamese network"
        )
    return LEARNERS[config.learner](
        network,
        config,
        meta_steps=meta_steps,
        seed=seed,
        augment=augment,
        augment_episodes=augment_episodes,
    )
