"""A ceiling: a network that was trained with labels on the very classes of the tasks.

    p_l / (p_l + max over the other labels of p)     above 1/2 where l is the likeliest

It is told which class a task is about and ignores the support set (Rakelly et al. 2018,
sections 5.1 and 5.2, "oracle").
"""

import dataclasses

import numpy as np

from efficientlab_tf.data.folds import plain_name
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter


@dataclasses.dataclass(frozen=True)
class Oracle(Segmenter):
    """See the top of the module.

    Attributes:
      network: what predicts probabilities of the background and of all classes.
      names: of the classes, in the order of their labels.
      wanted: labels of the classes that a task is about.
    """

    network: Adapted
    names: tuple[str, ...]
    wanted: tuple[int, ...] = ()

    def for_task(self, name: str) -> "Oracle":
        """See `Segmenter`.

        Raises:
          UserError: the network does not know the class.
        """
        classes = [plain_name(part) for part in name.split("+")]
        if unknown := [c for c in classes if c not in self.names]:
            raise UserError(
                f"oracle: expected a network trained on class {unknown[0]}, received "
                f"one of {', '.join(self.names)}"
            )
        wanted = tuple(1 + self.names.index(c) for c in classes)
        return dataclasses.replace(self, wanted=wanted)

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "OracleAdapted":
        """See `Segmenter`; nothing is learned."""
        return OracleAdapted(self.network, self.wanted)


@dataclasses.dataclass(frozen=True)
class OracleAdapted(Adapted):
    """See `Oracle`."""

    network: Adapted
    wanted: tuple[int, ...]

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`."""
        found = self.network.predict(images)
        own = found[..., list(self.wanted)]
        rest = np.delete(found, self.wanted, axis=-1).max(-1, keepdims=True)
        joined = np.concatenate([rest, own], axis=-1)
        return joined / joined.sum(-1, keepdims=True)
