"""The automatic model: it needs no choice of a model, and says how good it will be."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from efficientlab_tf.api.automatic_files import load_automatic, save_automatic
from efficientlab_tf.api.model import AdaptedModel, Model
from efficientlab_tf.api.networks import (
    ForwardModel,
    GradientModel,
    NetworkModel,
    load_network,
)
from efficientlab_tf.automatic.candidates import linear_families, usual_families
from efficientlab_tf.automatic.estimate import Estimate
from efficientlab_tf.automatic.family import Family
from efficientlab_tf.automatic.networks import GradientFamily, SolvedFamily
from efficientlab_tf.automatic.search import Progress
from efficientlab_tf.automatic.segmenter import AutomaticSegmenter, Found
from efficientlab_tf.automatic.task import Task
from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.config.settings import SEED, check_value
from efficientlab_tf.errors import UserError
from efficientlab_tf.inference.pictures import (
    Picture,
    check_classes,
    numbered,
    read_masks,
    read_pictures,
)
from efficientlab_tf.shipped import shipped, shipped_path

AUTO_METHOD, LINEAR_METHOD, SOLVED_METHOD = "auto", "linear", "meta_learned"
METHODS = (AUTO_METHOD, LINEAR_METHOD, SOLVED_METHOD)
"""auto tries all that comes with the package; linear the linear classifiers alone;
meta_learned the network that solves in closed form alone, where nothing is chosen."""
BUDGET = 60.0
"""Seconds that a search may take."""
SIDE = 384
"""Side of the pictures that a dataset is read at for it; a person's are read whole."""
_CLOSER = 160
"""Pixels at which a network that was trained smaller is also tried."""
_SOLVED_SIDES = (256, 384, 512)
"""Pixels for a network without steps."""
_STEPS, _MANY_STEPS = (5, 20), (20, 50, 100)
_NEW_RATE, _NEW_AUGMENT = 0.05, 0.5


class AutomaticModel(Model):
    """Candidates, of which cross-validation on the labelled pictures chooses.

    Args:
      name: one of `METHODS`.
      budget: seconds that each search may take, if not said otherwise.
    """

    any_size = True

    def __init__(self, name: str = AUTO_METHOD, budget: float = BUDGET):
        self.name, self.budget = name, budget
        self.size, self.defaults = (SIDE, SIDE), Settings()

    def segmenter(
        self, classes: int = 1, settings: Settings = OWN
    ) -> AutomaticSegmenter:
        """See `Model`; for images of any size."""
        self.resolve(settings)
        return AutomaticSegmenter(self._families, self._usual, self.budget)

    def adapt(
        self,
        images: Sequence[Picture],
        masks: Sequence[Picture],
        *,
        classes: int | Sequence[str] | None = None,
        seed: int = 0,
        threshold: float | None = None,
        budget: float | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        settings: Settings = OWN,
        **others: Any,
    ) -> "AutomaticAdaptedModel":
        """Chooses and learns from labelled pictures.

        Args:
          images: arrays uint8 [H, W, 3] or [H, W], PIL images, or paths of files; each
            of its own size.
          masks: of the same sizes, in the same forms: 0 background, 1..K classes, 255
            unknown.
          classes: K, or the classes' names; None takes K from the masks.
          seed: decides what is held out, and all else that is random.
          threshold: the foreground probability above which a pixel counts, in all
            pictures, for K = 1; None calibrates and finds one for each picture.
          budget: seconds that the search may take, None for the model's own (60);
            infinite tries all candidates, and then the result depends on nothing but
            the seed.
          on_progress: called with a `Progress` as candidates are judged.
          settings: must be empty; the search decides.
          **others: options of `Model.adapt` for an inner loop: refused unless None.

        Returns:
          What was chosen, adapted to all pictures, with what to expect of it.

        Raises:
          UserError: pictures or masks that do not fit each other, a class without a
            labelled pixel, a budget that is not above 0, or an option of an inner loop.
        """
        given = {name: value for name, value in others.items() if value is not None}
        for name in given:
            raise UserError(f"`{name}` {self._no_effect(name)}; leave it out")
        self.resolve(settings)
        check_value("seed", seed, int, **SEED)
        if threshold is not None:
            check_value("threshold", threshold, float, above=0, below=1)
        budget = self.budget if budget is None else budget
        if not budget > 0:
            raise UserError(f"`budget` must be above 0 seconds, received {budget}")
        deadline = time.monotonic() + budget
        pictures = read_pictures("images", images)
        labels = read_masks(masks, pictures)
        names, count = check_classes(labels, classes)
        found = self.segmenter().find(
            pictures,
            labels,
            classes=count,
            threshold=threshold,
            seed=seed,
            deadline=deadline,
            on_progress=on_progress,
        )
        return AutomaticAdaptedModel(self, found.adapted, names, found=found)

    def save_adapted(self, adapted: AdaptedModel, path: Path) -> None:
        """See `Model`."""
        save_automatic(path, adapted.adapted)

    def _no_effect(self, name: str) -> str:
        return f"has no effect: {self.name} looks for the best way by itself"

    def _families(self, task: Task) -> list[Callable[[], Family | None]]:
        if self.name == LINEAR_METHOD:
            return linear_families(task)
        if self.name == SOLVED_METHOD:
            return _solved_families()
        return _solved_families() + linear_families(task) + _gradient_families()

    def _usual(self, task: Task) -> list[Family]:
        usual = [] if self.name == SOLVED_METHOD else usual_families(task)
        if self.name != LINEAR_METHOD:
            usual += [make() for make in _solved_families()]
        return usual


@dataclasses.dataclass(frozen=True)
class AutomaticAdaptedModel(AdaptedModel):
    """What a search found, adapted to all pictures.

    Attributes:
      found: what was tried, and what was chosen; None if it was loaded.
    """

    found: Found | None = None

    @property
    def estimate(self) -> Estimate | None:
        """What IoU to expect of new pictures.

        None if no picture could be kept aside, if labels are points alone, or if the
        model was loaded.
        """
        return self.found and self.found.estimate


class SavedAutomaticModel(AutomaticModel):
    """What a search found and was saved: it segments without being adapted.

    Args:
      path: of a file that `AdaptedModel.save` wrote.

    Raises:
      UserError: it did not.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._saved = load_automatic(path)

    @property
    def adapted(self) -> AdaptedModel:
        """See `Model`."""
        names = numbered(self._saved.classes)
        return AutomaticAdaptedModel(self, self._saved, names)


def _solved_families() -> list[Callable[[], Family]]:
    """Networks that come with the package and take no steps: they cost little."""
    names = _shipped(takes_steps=False)
    return [lambda n=name: SolvedFamily(n, _sized(n)) for name in names]


def _gradient_families() -> list[Callable[[], Family | None]]:
    """Networks that come with the package: as they were trained, then otherwise.

    What takes longest, the encoder of ImageNet with a new decoder, comes last.
    """
    ways = _as_trained, _closer, _decoder_alone, _new_decoder
    names = _shipped(takes_steps=True)
    return [lambda way=way, n=name: way(n) for way in ways for name in names]


def _shipped(takes_steps: bool) -> list[str]:
    return [
        name
        for name in sorted(shipped())
        if isinstance(_network(name), GradientModel) == takes_steps
    ]


@functools.cache
def _network(name: str) -> NetworkModel:
    return load_network(name, str(shipped_path(name)))


@functools.cache
def _sized(name: str) -> tuple[ForwardModel, ...]:
    model = _network(name)
    return tuple(model.at_size(side) for side in _SOLVED_SIDES)


@functools.cache
def _as_trained(name: str) -> GradientFamily:
    model = _network(name)
    return GradientFamily(name, model, (model.defaults.steps,))


@functools.cache
def _closer(name: str) -> GradientFamily | None:
    """At more pixels, and with more steps; None if that is nothing new."""
    model = _network(name)
    if model.size[0] >= _CLOSER:
        return None
    return GradientFamily(name, model.at_size(_CLOSER), _STEPS)


@functools.cache
def _decoder_alone(name: str) -> GradientFamily | None:
    """The encoder stays as it was meta-learned."""
    closer = _closer(name)
    if closer is None:
        return None
    own = Settings(adapt="decoder")
    return GradientFamily(f"{name}, decoder alone", closer.model, _MANY_STEPS, own)


@functools.cache
def _new_decoder(name: str) -> GradientFamily | None:
    """Fine-tuning as without meta-learning: ImageNet's encoder and a new decoder."""
    closer = _closer(name)
    if closer is None:
        return None
    own = closer.model.checkpoint
    config = dataclasses.replace(own.run.model, weights="imagenet")
    weights = build_network(config).weights()
    model = GradientModel(name, own._replace(weights=weights))
    how = Settings(learning_rate=_NEW_RATE, augment_rate=_NEW_AUGMENT)
    label = "ImageNet's encoder with a new decoder"
    return GradientFamily(label, model, _MANY_STEPS, how)
