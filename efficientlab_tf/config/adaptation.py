"""How a loaded model adapts: what every command that takes one can change."""

import dataclasses

from efficientlab_tf.config.settings import MAX_STEPS, check, setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a loaded model adapts. What is None is as the model was trained or tuned."""

    steps: int | None = setting(
        None,
        "Steps of the inner loop; 0 segments with the initialization as it is. If not "
        "given: as the model was trained or tuned.",
        least=0,
        most=MAX_STEPS,
    )
    learning_rate: float | None = setting(
        None, "Learning rate of the inner loop. If not given: the model's own.", above=0
    )
    batch_norm: str | None = setting(
        None,
        "Statistics that batch normalization predicts with: running averages (the "
        "papers), those of the support set under the adapted weights, or those of the "
        "query batch (transductive: the queries inform each other; not every command "
        "allows it). If not given: the model's own.",
        ("running", "support", "query"),
    )
    inner_batch: int | None = setting(
        None,
        "Pictures in each step, drawn epoch by epoch from the support set; 0 takes all "
        "at each step. If not given: the model's own.",
        least=0,
    )
    loss: str | None = setting(
        None,
        "Loss of the inner loop. If not given: the model's own.",
        ("bce_dice", "cross_entropy", "sum_cross_entropy"),
    )
    l2: float | None = setting(
        None, "Weight of the loss's L2 term. If not given: the model's own.", least=0
    )
    augment_rate: float | None = setting(
        None,
        "Chance of each augmentation for each picture and step. If not given: the "
        "model's own.",
        least=0,
        most=1,
    )
    adapt: str | None = setting(
        None,
        "What the inner loop changes: all weights, or the decoder alone. If not given: "
        "the model's own.",
        ("all", "decoder"),
    )

    jit: str | None = setting(
        None,
        "Compile the steps of the inner loop with XLA; auto does on a GPU. Compiling "
        "takes its time once, so it pays where many tasks follow. If not given: off.",
        ("auto", "on", "off"),
    )

    def __post_init__(self):
        check(self)

    @property
    def given(self) -> dict[str, int | float | str]:
        """What is not None, by name."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None}

    @property
    def about(self) -> str:
        """The adaptation in a few words, of settings with nothing left to default."""
        if self.steps is None:
            return "no steps"
        rate = f"{self.learning_rate:g}" if self.learning_rate else "learned rates"
        statistics = self.batch_norm
        if statistics == "query":
            statistics += ", TRANSDUCTIVE (query batch statistics)"
        return f"{self.steps} steps at {rate}, batch norm {statistics}"

    def __or__(self, other: "Settings") -> "Settings":
        """These settings with those that `other` gives in their place."""
        return dataclasses.replace(self, **other.given)


BUT_STEPS = tuple(f.name for f in dataclasses.fields(Settings) if f.name != "steps")
"""Names of its fields, for commands that read the steps in another way."""
BUT_JIT = tuple(f.name for f in dataclasses.fields(Settings) if f.name != "jit")
"""The same for what an exported model can be told."""
OWN = Settings()
"""Everything as the model itself has it."""
