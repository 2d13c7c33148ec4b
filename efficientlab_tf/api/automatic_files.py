"""What a search found as a .keras file.

It holds the encoder that linear classifiers see through, their arrays, and a .keras
file of its own for each network. One that adapts in a forward pass has one file for all
its sizes, and its guides at each.
"""

import dataclasses
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.api.model import AdaptedModel
from efficientlab_tf.api.networks import ForwardModel, network_model
from efficientlab_tf.automatic.adapted import AutomaticAdapted
from efficientlab_tf.automatic.family import Member
from efficientlab_tf.automatic.linear import LinearMember
from efficientlab_tf.automatic.networks import NetworkMember
from efficientlab_tf.automatic.reading import Reader, reader
from efficientlab_tf.automatic.threshold import Decision
from efficientlab_tf.checkpoint.files import (
    ADVICE,
    has_member,
    load_checkpoint,
    read_model,
    save_model,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing
from efficientlab_tf.untrusted import open_archive, reading

_MARK = "efficientlab_tf_automatic.npz"
_NETWORK = "efficientlab_tf_network_{}.keras"
_LINEAR, _TRAINED, _SOLVED = "linear", "network", "forward network"


def save_automatic(path: Path, adapted: AutomaticAdapted) -> None:
    """Writes what a search found.

    Args:
      path: of the .keras file, which appears whole or not at all.
      adapted: what was found.

    Raises:
      UserError: it cannot be written.
    """
    members = []
    arrays = {_MARK: [np.array(dataclasses.astuple(adapted.decision), np.float32)]}
    with tempfile.TemporaryDirectory(prefix="efficientlab_tf_") as folder:
        nested = []
        encoder = reader()
        for number, member in enumerate(adapted.members + adapted.beside):
            own = {"beside": number >= len(adapted.members)}
            if isinstance(member, LinearMember):
                encoder = member.reader
                arrays[_arrays(number)] = member.tensors
                members.append(own | {"kind": _LINEAR, "side": member.side})
                continue
            forward = isinstance(member.models[0], ForwardModel)
            pairs = list(zip(member.models, member.adapted, strict=True))
            files = []
            for model, one in pairs[:1] if forward else pairs:
                file = Path(folder) / _NETWORK.format(len(nested))
                whole = AdaptedModel(model, one, (), settings=model.defaults)
                model.save_adapted(whole, file)
                nested.append(file)
                files.append(file.name)
            kept = [member.tensors[-1]]
            own |= {"kind": _TRAINED, "label": member.about, "files": files}
            if forward:
                kept += [np.stack(one.guides) for one in member.adapted]
                sides = [model.size[0] for model in member.models]
                own |= {"kind": _SOLVED, "sides": sides}
            arrays[_arrays(number)] = kept
            members.append(own)
        metadata = {
            "method": "automatic",
            "backbone": encoder.model.name,
            "classes": adapted.classes,
            "borders": adapted.borders,
            "members": members,
        }
        with replacing(path) as partial:
            save_model(partial, encoder.model, metadata, arrays)
            with zipfile.ZipFile(partial, "a") as archive:
                for file in nested:
                    archive.write(file, file.name)


def is_automatic(path: Path) -> bool:
    """Whether a file is one that `save_automatic` wrote."""
    return has_member(path, _MARK)


def load_automatic(path: Path) -> AutomaticAdapted:
    """Reads what `save_automatic` wrote.

    Raises:
      UserError: it did not write this.
    """
    model, metadata, arrays = read_model(path)
    with reading(str(path), ADVICE), tempfile.TemporaryDirectory() as folder:
        classes = int(metadata["classes"])
        encoder = Reader(str(metadata["backbone"]), model)
        with open_archive(path, path.stat().st_size) as archive:
            members = {False: (), True: ()}
            for i, own in enumerate(metadata["members"]):
                given = arrays[_arrays(i)], encoder, archive, Path(folder), classes
                members[bool(own["beside"])] += (_member(own, *given),)
        slope, bias, by_picture = map(float, arrays[_MARK][0])
        if not any(members.values()) or not np.isfinite([slope, bias]).all():
            raise ValueError("it holds no members")
    borders = bool(metadata["borders"])
    decision = Decision(slope, bias, bool(by_picture))
    return AutomaticAdapted(members[False], members[True], classes, decision, borders)


def _arrays(number: int) -> str:
    return f"efficientlab_tf_member_{number}.npz"


def _member(
    own: dict[str, Any],
    arrays: list[np.ndarray],
    encoder: Reader,
    archive: zipfile.ZipFile,
    folder: Path,
    classes: int,
) -> Member:
    if own["kind"] == _LINEAR:
        kernels, biases, weights = (np.asarray(a, np.float32) for a in arrays)
        count = len(weights)
        shapes = [(count, encoder.channels, classes + 1), (count, classes + 1)]
        if [kernels.shape, biases.shape] != shapes:
            raise ValueError("its classifiers are not those of its encoder")
        tensors = tuple(map(tf.constant, (kernels, biases, weights)))
        return LinearMember(encoder, int(own["side"]), tensors)
    label, models = str(own["label"]), []
    for name in own["files"]:
        file = folder / Path(name).name
        file.write_bytes(archive.read(name))
        models.append(network_model(label, load_checkpoint(str(file))))
    adapted = [model.adapted.adapted for model in models]
    if own["kind"] == _SOLVED:
        models = [models[0].at_size(int(side)) for side in own["sides"]]
        guides = [np.asarray(each, np.float32) for each in arrays[1:]]
        if {each.shape for each in guides} != {np.shape(adapted[0].guides)}:
            raise ValueError("its guides are not those of its network")
        adapted = [
            model.guided(tf.unstack(tf.constant(each)))
            for model, each in zip(models, guides, strict=True)
        ]
    weights = [float(w) for w in np.atleast_1d(arrays[0])]
    if not adapted or len(weights) != len(adapted):
        raise UserError(f"expected a weight for each network; {ADVICE}")
    return NetworkMember(label, models, adapted, weights)
