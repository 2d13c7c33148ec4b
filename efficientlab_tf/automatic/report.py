"""What is said of a search: what was chosen and why, and what to expect of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientlab_tf.automatic.estimate import Estimate, estimate
from efficientlab_tf.automatic.search import Judged
from efficientlab_tf.automatic.segmenter import Found
from efficientlab_tf.automatic.task import Task
from efficientlab_tf.data.annotations import Support
from efficientlab_tf.metrics import confusion, predicted_masks, present_iou

_ODD_ONE = 0.5
"""A picture is odd if its IoU is less than this part of the others' median."""
_SHOWN = 5


def described(found: Found, support: Support) -> list[str]:
    """Lines for a person."""
    choice, task = found.choice, found.task
    if choice is None:
        members = found.adapted.members + found.adapted.beside
        kinds = "; ".join(member.about for member in members)
        return [
            f"chosen without trial: {kinds}; no picture can be kept aside, so how good "
            "the masks will be is not known: label a second picture of each class"
        ]
    names = [_scored(one) for one in choice.candidates]
    how = []
    if names:
        how = [f"chosen: the mean of {len(names)} of {len(found.judged)} candidates:"]
        how += [f"  {name}" for name in names]
    if choice.borders:
        how.append("  drawn to the pictures' edges")
    if choice.beside:
        how.append("and for half, whatever their score:" if names else "used:")
        how += [f"  {_scored(one)}" for one in choice.beside]
    if choice.decision.by_picture:
        how.append("calibrated, with the threshold for each picture that promises most")
    if found.out_of_time:
        how.append("  the budget ended the search; more time tries more candidates")
    how.append(f"expected IoU on new pictures: {_sentence(found)}")
    if task.classes > 1:
        own = expected_of_classes(found, support.classes)
        how += [f"  {name}: {own[name]}" for name in own]
    for name, score in odd_ones(found, support):
        how.append(
            f"warning: what the other pictures teach finds {100 * score:.0f} % of "
            f"{name}; look whether its label is right and shows the same thing"
        )
    return how


def document_of(found: Found, support: Support) -> dict[str, Any]:
    """The same for summary.json."""
    choice = found.choice
    document = {
        "candidates": [
            {"name": one.name, "iou": one.score, "each": list(one.scores)}
            for one in sorted(found.judged, key=lambda one: -one.score)
        ],
        "out_of_time": found.out_of_time,
    }
    if choice is None:
        return document
    return document | {
        "chosen": [one.name for one in choice.candidates],
        "beside": [one.name for one in choice.beside],
        "borders": choice.borders,
        "decision": dataclasses.asdict(choice.decision),
        "expected_iou": dataclasses.asdict(estimate(choice.scores)),
        "expected_class_iou": {
            name: dataclasses.asdict(own)
            for name, own in expected_of_classes(found, support.classes).items()
        },
        "from": _kind(found.task),
        "judged": [
            {"file": support.pictures[found.task.entries[entry].picture].name, "iou": s}
            for entry, s in zip(found.task.judged, choice.scores, strict=True)
        ],
    }


def expected_of_classes(found: Found, names: Sequence[str]) -> dict[str, Estimate]:
    """What to expect of each class that a judged picture shows."""
    task, choice = found.task, found.choice
    by_class: dict[int, list[float]] = {}
    for entry, p in zip(task.judged, choice.probabilities, strict=True):
        mask = predicted_masks(p[np.newaxis])
        counts = confusion(task.truth(entry)[np.newaxis], mask, task.classes)[0]
        for number, iou in present_iou(counts).items():
            by_class.setdefault(number, []).append(iou)
    return {names[n - 1]: estimate(by_class[n]) for n in sorted(by_class)}


def odd_ones(found: Found, support: Support) -> list[tuple[str, float]]:
    """Labelled pictures that the others do not explain, and their IoU."""
    task, scores = found.task, np.array(found.choice.scores)
    if len(scores) < 3:
        return []
    odd = []
    for entry, score in zip(task.judged, scores, strict=True):
        others = np.delete(scores, task.judged.index(entry))
        if score < _ODD_ONE * np.median(others):
            name = support.pictures[task.entries[entry].picture].name
            odd.append((name, float(score)))
    return sorted(odd, key=lambda pair: pair[1])[:_SHOWN]


def _scored(one: Judged) -> str:
    return f"{one.name} ({100 * one.score:.1f} %)"


def _sentence(found: Found) -> str:
    kind = _kind(found.task)
    if found.task.is_sparse:
        return "not known: points are judged by points; give a mask of a picture or two"
    return f"{estimate(found.choice.scores)}, from {kind}"


def _kind(task: Task) -> str:
    if len(task.folds) == len(task.judged):
        return "leave-one-out"
    return f"{len(task.folds)} folds"
