"""The trained models, flagfiles and tools that come with the package.

They lie in folders at the top of a checkout, and inside the package where it is
installed.
"""

from pathlib import Path

from efficientlab_tf.errors import UserError

_PACKAGE = Path(__file__).parent
_MODEL, _CARD = "model.keras", "README.md"


def _folder(installed: str, checkout: str) -> Path:
    inside = _PACKAGE / installed
    return inside if inside.is_dir() else _PACKAGE.parent / checkout


MODELS = _folder("saved_models", "saved_models")
FLAGFILES = _folder("flagfiles", "flags")
TOOLS = _folder("tools", "tools")


def shipped() -> dict[str, str]:
    """The models that come with the package: what each is, in one line, by its name.

    The line is the first sentence of the model's card, saved_models/NAME/README.md.
    """
    return {
        card.parent.name: _first_sentence(card)
        for card in sorted(MODELS.glob(f"*/{_CARD}"))
        if card.with_name(_MODEL).is_file()
    }


def shipped_path(name: str) -> Path:
    """The .keras file of a model that comes with the package.

    Raises:
      UserError: there is no model of that name.
    """
    names = shipped()
    if name not in names:
        raise UserError(
            f"expected the name of a model that comes with the package, received "
            f"{name!r}; choose one of {', '.join(names)}"
        )
    return MODELS / name / _MODEL


def flagfile_path(path: str) -> Path:
    """A flagfile: `path` where it exists, or else the package's of that name."""
    ours = FLAGFILES / Path(path).name
    return ours if ours.is_file() and not Path(path).exists() else Path(path)


def _first_sentence(card: Path) -> str:
    """The first sentence under the card's title, as one line."""
    paragraph = card.read_text(encoding="utf-8").split("\n\n")[1]
    sentence, _, _ = " ".join(paragraph.split()).partition(". ")
    return sentence.removesuffix(".") + "."
