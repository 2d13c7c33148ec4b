"""A loaded model, and what becomes of it when it has seen labelled pictures.

    model = load("icons_fomaml_lite0")
    adapted = model.adapt(images, masks)
    masks = adapted.predict(pictures)

Pictures may have any size, each its own. A model brings them to its own size, and what
it finds back to theirs. Every command that takes a model takes one of these.
"""

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientlab_tf.checkpoint.tuned import Tuned
from efficientlab_tf.config import OWN, ExportConfig, Settings
from efficientlab_tf.config.settings import SEED, check_value
from efficientlab_tf.data.annotations import resize_annotations, resize_image
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import writing
from efficientlab_tf.inference.pictures import (
    Picture,
    check_classes,
    check_left,
    read_masks,
    read_pictures,
)
from efficientlab_tf.metrics import confidence
from efficientlab_tf.pictures import decide, resize_probabilities
from efficientlab_tf.segmenters.adaptation import (
    MAX_AUTO_STEPS,
    OnStep,
    Step,
    StepSearch,
    choose_held_out,
    follow,
    search_steps,
)
from efficientlab_tf.segmenters.segmenter import Adapted, Segmenter

AUTO = "auto"
"""As `steps`: early stopping on a fifth of the support set finds the number."""
WHOLE_SUPPORT, MINI_BATCH = 32, 8
"""A model that takes the whole support set at each step takes so many pictures at most;
of more, mini-batches."""

_BATCH = 8


class Model(abc.ABC):
    """A method of few-shot segmentation, ready to adapt.

    Attributes:
      name: what it was loaded as.
      size: height and width in pixels that it works at.
      defaults: how it adapts; fields that have no meaning for it are None.
      tuned: what tuning chose after meta-training and is in effect, if anything.
      any_size: whether its segmenters take images of any size, not of `size` alone.
    """

    any_size = False
    name: str
    size: tuple[int, int]
    defaults: Settings
    tuned: Tuned | None = None

    @property
    def has_steps(self) -> bool:
        """Whether it adapts in steps of an inner loop."""
        return self.defaults.steps is not None

    @property
    def classes(self) -> int:
        """Foreground classes that it tells apart without another head."""
        return 1

    @abc.abstractmethod
    def segmenter(self, classes: int = 1, settings: Settings = OWN) -> Segmenter:
        """Returns the method on images of `size`, for so many classes.

        Args:
          classes: K.
          settings: what is to be otherwise than `defaults`.

        Raises:
          UserError: a setting that has no effect on this model.
        """

    def resolve(self, settings: Settings) -> Settings:
        """Returns `settings` with nothing left to default.

        Raises:
          UserError: a setting that has no effect on this model.
        """
        for name in settings.given:
            if getattr(self.defaults, name) is None:
                raise UserError(f"`{name}` {self._no_effect(name)}; leave it out")
        return self.defaults | settings

    def _no_effect(self, name: str) -> str:
        return f"has no effect: {self.name} adapts without steps and without training"

    def adapt(
        self,
        images: Sequence[Picture],
        masks: Sequence[Picture],
        *,
        steps: int | str | None = None,
        learning_rate: float | None = None,
        batch_norm: str | None = None,
        seed: int = 0,
        classes: int | Sequence[str] | None = None,
        threshold: float = 0.5,
        on_step: OnStep | None = None,
        settings: Settings = OWN,
    ) -> "AdaptedModel":
        """Learns from labelled pictures. What is None is the model's own.

        Args:
          images: arrays uint8 [H, W, 3] or [H, W], PIL images, or paths of files; each
            of its own size.
          masks: of the same sizes, in the same forms: 0 background, 1..K classes, 255
            unknown. A few labelled pixels are enough, the rest 255.
          steps: of the inner loop; "auto" finds the number by early stopping on a fifth
            of the pictures and then takes as many on all.
          learning_rate: of the inner loop.
          batch_norm: "support" or "running", see `Settings`.
          seed: decides mini-batches, augmentation, dropout, and what is held out.
          classes: K, or the classes' names; None takes K from the masks.
          threshold: the foreground probability above which a pixel counts, for K = 1.
          on_step: called with a `Step` after each step, also before the first.
          settings: anything else that is to be otherwise.

        Returns:
          The adapted model; this one stays as it is.

        Raises:
          UserError: pictures or masks that do not fit each other, a class without a
            labelled pixel, or an option that has no effect on this model.
        """
        searching = steps == AUTO
        if isinstance(steps, str) and not searching:
            raise UserError(f"`steps` must be a number or {AUTO!r}, received {steps!r}")
        settings |= Settings(
            None if searching else steps, learning_rate, _checked(batch_norm)
        )
        if searching and not self.has_steps:
            settings |= Settings(steps=MAX_AUTO_STEPS)  # Refused, as it has no effect.
        check_value("threshold", threshold, float, above=0, below=1)
        check_value("seed", seed, int, **SEED)
        pictures = read_pictures("images", images)
        labels = read_masks(masks, pictures)
        names, count = check_classes(labels, classes)
        support = np.stack([resize_image(picture, self.size) for picture in pictures])
        labels = (resize_annotations(label[np.newaxis], self.size) for label in labels)
        labels = np.concatenate(list(labels))
        check_left(labels, names, self.size)
        notes: list[str] = []
        own = self.resolve(self._for_support(len(support), settings, notes))
        if self.has_steps and count != self.classes:
            notes.append(
                f"the model tells {self.classes} class(es) apart; its head was copied "
                f"to {count}"
            )
        watch: dict[str, Any] = {"seed": seed, "threshold": threshold}
        search = None
        if searching:
            search = self._search(support, labels, count, own, on_step, notes, **watch)
            if search:
                own |= Settings(steps=search.steps)
        method, trail = self.segmenter(count, own), ()
        if on_step is None:
            adapted = method.adapt(support, labels, seed=seed)
        else:
            adapted, trail = follow(method, support, labels, on_step=on_step, **watch)
        found = (threshold, own, trail, search, tuple(notes))
        return AdaptedModel(self, adapted, names, *found)

    def _for_support(self, count: int, settings: Settings, notes: list[str]):
        """Takes mini-batches of a large support set, unless told otherwise."""
        chosen = self.defaults.inner_batch != 0 or settings.inner_batch is not None
        if chosen or count <= WHOLE_SUPPORT:
            return settings
        notes.append(
            f"mini-batches of {MINI_BATCH}: the model takes the whole support set at "
            f"each step, but {count} pictures are many (`inner_batch`=0 takes them)"
        )
        return settings | Settings(inner_batch=MINI_BATCH)

    def _search(
        self, support, labels, count, own, on_step, notes, *, seed, threshold
    ) -> StepSearch | None:
        """Finds the number of steps, if a picture can be spared for that."""
        spared = choose_held_out(labels, seed)
        if not spared:
            notes.append(
                "to find the number of steps takes two labelled pictures of each "
                f"class, one to hold out; the model's own {own.steps} are taken instead"
            )
            return None
        segmenter = self.segmenter(count, own | Settings(steps=MAX_AUTO_STEPS))
        search = search_steps(
            *(segmenter, support, labels, spared),
            seed=seed,
            threshold=threshold,
            on_step=on_step or (lambda step: None),
        )
        if search.steps == MAX_AUTO_STEPS:
            notes.append(
                f"still better at {MAX_AUTO_STEPS} steps; give a larger number of "
                "`steps` to take more"
            )
        return search

    @property
    def adapted(self) -> "AdaptedModel":
        """The model as it is: an initialization, or adapted when it was saved.

        Raises:
          UserError: this method segments nothing before it has adapted.
        """
        raise UserError(
            f"{self.name} segments nothing before it has adapted: call adapt with "
            "labelled pictures first"
        )

    def save_adapted(self, adapted: "AdaptedModel", path: Path) -> None:
        """Writes what `AdaptedModel.save` writes.

        Raises:
          UserError: the method has no form as a file.
        """
        raise UserError(
            f"{self.name} keeps the labelled pictures themselves and has no form as a "
            "file; adapt it again where it is needed, or save another method"
        )

    def predict(self, pictures: Sequence[Picture]) -> list[np.ndarray]:
        """Segments pictures with the model as it is, see `adapted`.

        Args:
          pictures: as the images of `adapt`.

        Returns:
          For each a mask uint8 [H, W] of the picture's own size: 0 background, 1..K.

        Raises:
          UserError: a picture cannot be read, or the method must adapt first.
        """
        return self.adapted.predict(pictures)

    def probabilities(self, pictures: Sequence[Picture]) -> list[np.ndarray]:
        """As `predict`: float32 [H, W, K+1] each, channel 0 the background."""
        return self.adapted.probabilities(pictures)

    def export(
        self,
        folder: str | Path,
        config: ExportConfig | None = None,
        *,
        settings: Settings = OWN,
        overwrite: bool = False,
    ) -> None:
        """Writes the model for TensorFlow Serving, with adaptation on request.

        Args:
          folder: the version's folder, such as served/mine/1.
          config: what is exported, and the limits of a request.
          settings: how requests adapt, where not as `defaults`.
          overwrite: replace a model that is there.

        Raises:
          UserError: something is in the folder, it cannot be written, or the model has
            no inner loop.
        """
        raise UserError(
            f"{self.name} has no inner loop to export; adapt it to labelled pictures "
            "and export the result"
        )


@dataclasses.dataclass(frozen=True)
class AdaptedModel:
    """A model that has learned from labelled pictures. It never changes.

    Attributes:
      model: what was adapted.
      adapted: the method on images of the model's size.
      classes: names of the classes 1..K.
      threshold: see `Model.adapt`.
      settings: how it was adapted.
      steps: what was known after each step, if it was watched.
      search: how the number of steps was found, if it was.
      notes: what is worth knowing about the adaptation, in sentences.
    """

    model: Model
    adapted: Adapted
    classes: tuple[str, ...]
    threshold: float = 0.5
    settings: Settings = OWN
    steps: tuple[Step, ...] = ()
    search: StepSearch | None = None
    notes: tuple[str, ...] = ()

    @property
    def losses(self) -> np.ndarray:
        """The support loss before each step, float32 [steps]; empty without steps."""
        if self.steps:
            losses = [step.loss for step in self.steps if step.loss is not None]
            return np.array(losses, np.float32)
        return np.asarray(self.adapted.losses, np.float32)

    def predict(self, pictures: Sequence[Picture]) -> list[np.ndarray]:
        """Segments pictures.

        Args:
          pictures: as the images of `Model.adapt`.

        Returns:
          For each a mask uint8 [H, W] of the picture's own size: 0 background, 1..K.

        Raises:
          UserError: a picture cannot be read.
        """
        return [self.decide(*found)[0] for found in self._found(pictures)]

    def probabilities(self, pictures: Sequence[Picture]) -> list[np.ndarray]:
        """As `predict`: float32 [H, W, K+1] each, channel 0 the background."""
        return [resize_probabilities(*found) for found in self._found(pictures)]

    @property
    def batch(self) -> int:
        """How many pictures `infer` takes at a time, at most."""
        return 1 if self.model.any_size else _BATCH

    def view(self, image: np.ndarray) -> np.ndarray:
        """A picture, uint8 [H, W, 3], as the model sees it: at its size, if it has one.

        This, `infer` and `decide` are the steps of `predict`, for who runs them at the
        same time on several pictures: all but `infer` may run in any thread.
        """
        return image if self.model.any_size else resize_image(image, self.model.size)

    def infer(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float32 [n, h, w, K+1], of what `view` made of pictures."""
        return self.adapted.predict(np.stack(views))

    def decide(
        self, probabilities: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, float]:
        """What was found of a picture: its mask, and how sure the model is.

        Args:
          probabilities: float32 [h, w, K+1], of `infer`.
          size: height and width of the picture.

        Returns:
          The mask, as `predict`, and its IoU if the model's probabilities were true, 0
          to 1: see `confidence`. It tells which of several masks to look at first.
        """
        mask = decide(probabilities, size, self.threshold)
        return mask, confidence(probabilities, self.threshold)

    def _found(self, pictures: Sequence[Picture]):
        """Yields probabilities of `infer`, and each picture's own size."""
        images = read_pictures("pictures", pictures)
        for i in range(0, len(images), self.batch):
            part = images[i : i + self.batch]
            found = self.infer([self.view(image) for image in part])
            for image, probabilities in zip(part, found, strict=True):
                yield probabilities, image.shape[:2]

    def save(self, path: str | Path) -> None:
        """Writes the adapted model to a .keras file that `load` reads.

        Raises:
          UserError: the file cannot be written, or the method has no form as a file.
        """
        path = Path(path)
        if path.suffix != ".keras":
            raise UserError(f"a model is saved to a .keras file, received {path}")
        with writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.model.save_adapted(self, path)

    def export(self, folder: str | Path, config: ExportConfig | None = None) -> None:
        """As `Model.export`, without adaptation; `folder` appears complete.

        Raises:
          UserError: it is taken or cannot be written, or the method has no graph.
        """
        from efficientlab_tf.serving.adapted import ServedAdapted
        from efficientlab_tf.serving.folder import export as write

        size = None if self.model.any_size else self.model.size
        limits = config or ExportConfig()
        served = ServedAdapted(self.adapted, size, len(self.classes), limits)
        write(Path(folder), served)


def _checked(batch_norm: str | None) -> str | None:
    if batch_norm == "query":
        raise UserError(
            "`batch_norm` must be running or support, received query: the pictures to "
            "segment would inform each other"
        )
    return batch_norm
