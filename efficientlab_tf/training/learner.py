"""The learner that a run's configuration describes."""

from efficientlab_tf.checkpoint.run import RunConfig, build_augment
from efficientlab_tf.learners import Learner, build_learner
from efficientlab_tf.segmenters.network import Network


def build_run_learner(config: RunConfig, network: Network) -> Learner:
    """Builds the learner of a run."""
    return build_learner(
        network,
        config.learner,
        meta_steps=config.train.meta_steps,
        seed=config.train.seed,
        augment=build_augment(config.learner, config.learner.augment_rate),
        augment_episodes=build_augment(
            config.learner, config.learner.episode_augment_rate
        ),
    )
