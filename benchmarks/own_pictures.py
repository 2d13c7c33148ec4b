"""How good a method is on pictures of their own sizes, class by class.

    python -m benchmarks.own_pictures --data=DIR --method=auto --shots=5 \\
        --output=results.json

DIR holds a folder a class, with pictures 1.jpg and masks 1.png. A draw takes so many
labelled pictures of a class and segments the others, or `--queries` of them; IoU is
that of each picture at its own size. Prints a line a class, and writes all numbers to
`--output`; `--summary` gets what the pages show. The same command again goes on with
what the file holds.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import pearsonr

import efficientlab_tf as el
from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.api.networks import NetworkModel
from efficientlab_tf.automatic.adapted import AutomaticAdapted
from efficientlab_tf.files import write_text
from efficientlab_tf.metrics import Interval


def read(folder: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 [H, W, 3], and its mask, uint8 [H, W]."""
    image = np.asarray(Image.open(folder / f"{stem}.jpg").convert("RGB"))
    mask = np.asarray(Image.open(folder / f"{stem}.png").convert("L")) > 127
    return image, mask.astype(np.uint8)


def ious(segment, pairs) -> list[float]:
    """IoU of each picture, at its own size; `segment` gives uint8 [H, W]."""
    found = []
    for image, truth in pairs:
        mask = segment(image)
        both, either = (mask & truth).sum(), (mask | truth).sum()
        found.append(float(both / either) if either else 1.0)
    return found


def alone(found, pairs) -> dict[str, float]:
    """The mean IoU of each candidate, had it been taken alone and as it is."""
    result = {}
    for one in found.judged:
        member = one.family.fit(found.task, {one.variant: 1.0})
        only = AutomaticAdapted((member,), (), found.task.classes)

        def segment(image, only=only):
            return only.segment(image).argmax(-1).astype(np.uint8)

        result[one.name] = float(np.mean(ious(segment, pairs)))
    return result


def measure(
    model, folder: Path, shots: int, queries: int, draw: int, each: bool, options
) -> dict:
    """One draw of one class: IoU of each query, the estimate, seconds."""
    rng = np.random.default_rng(draw)
    stems = sorted(path.stem for path in folder.glob("*.jpg"))
    stems = [stems[i] for i in rng.permutation(len(stems))]
    support = [read(folder, stem) for stem in stems[:shots]]
    others = [read(folder, stem) for stem in stems[shots:][: queries or None]]
    start = time.perf_counter()
    adapted = model.adapt(*map(list, zip(*support, strict=True)), seed=draw, **options)
    seconds = time.perf_counter() - start
    own = ious(lambda image: adapted.predict([image])[0], others)
    result = {"class": folder.name, "draw": draw, "iou": own, "seconds": seconds}
    if estimate := getattr(adapted, "estimate", None):
        result |= {"expected": [estimate.iou, estimate.low, estimate.high]}
    if found := getattr(adapted, "found", None):
        names = {one.name: one.score for one in found.judged}
        result |= {"candidates": names, "out_of_time": found.out_of_time}
        if found.choice:
            chosen = [one.name for one in found.choice.candidates]
            result |= {"chosen": chosen, "borders": found.choice.borders}
        if each:
            result["alone"] = alone(found, others)
    return result


def summarized(document: dict, about: str) -> dict:
    """What the pages show of a measurement: means over tasks, and each class's own.

    Args:
      document: all of it, as `--output` holds it.
      about: the set, in words.
    """
    results = document["results"]
    settings = document["settings"] | {"data": Path(document["settings"]["data"]).name}
    if "classes" in settings:
        settings["classes"] = Path(settings["classes"]).name
    measured = np.array([np.mean(r["iou"]) for r in results])
    iou = Interval.of(measured)
    told = [i for i, r in enumerate(results) if "expected" in r]
    expected = inside = correlation = None
    if told:
        means, low, high = np.array([results[i]["expected"] for i in told]).T
        expected = float(means.mean())
        if len(told) > 2:
            inside = float(np.mean((low <= measured[told]) & (measured[told] <= high)))
            correlation = float(pearsonr(means, measured[told])[0])
    return {
        "about": about,
        "settings": settings,
        "tasks": len(results),
        "iou": {"mean": iou.mean, "half_width": iou.half_width},
        "expected": expected,
        "inside": inside,
        "correlation": correlation,
        "seconds": float(np.median([r["seconds"] for r in results])),
        "by_class": {
            name: round(float(np.mean(own)), 4)
            for name in dict.fromkeys(r["class"] for r in results)
            for own in [[np.mean(r["iou"]) for r in results if r["class"] == name]]
        },
    } | candidates(results)


def candidates(results: list[dict]) -> dict:
    """How good each candidate is that all tasks tried alone, and the best of each."""
    each = [r["alone"] for r in results if "alone" in r]
    if not each:
        return {}
    tried = [name for name in each[0] if all(name in one for one in each)]
    alone = {name: float(np.mean([one[name] for one in each])) for name in tried}
    best = float(np.mean([max(one.values()) for one in each]))
    return {"alone": alone, "best_of_each_task": best}


def sentence(summary: dict) -> str:
    """A summary in one line: the means, and how honest the estimates were."""
    iou = Interval(**summary["iou"])
    text = f"{iou} % IoU of {summary['tasks']} tasks"
    if summary["correlation"] is not None:
        text += (
            f"; expected {100 * summary['expected']:.1f} %, measured inside the "
            f"interval {100 * summary['inside']:.0f} %, correlation "
            f"{summary['correlation']:.2f}"
        )
    return f"{text}; {summary['seconds']:.1f} s to adapt (median)"


def main() -> None:
    """Measures as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classes", type=Path, help="a file of names, one a line")
    parser.add_argument("--method", default="auto", help="whatever el.load takes")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="take every nth class")
    parser.add_argument("--budget", type=float, help="seconds a task")
    parser.add_argument("--steps", type=int, help="of the inner loop")
    parser.add_argument("--learning_rate", type=float, help="of the inner loop")
    parser.add_argument("--image_size", type=int, help="side that a network works at")
    parser.add_argument(
        "--each", action="store_true", help="also measure each candidate alone"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--summary", type=Path, help="also write means, for docs/measured"
    )
    parser.add_argument("--about", default="", help="the set, in words of the summary")
    args = parser.parse_args()
    names = sorted(path.name for path in args.data.iterdir() if path.is_dir())
    if args.classes:
        wanted = set(args.classes.read_text().split())
        names = [name for name in names if name in wanted]
    few = {n for n in names if len(list((args.data / n).glob("*.jpg"))) <= args.shots}
    if few:
        print(f"left out, with no picture to segment: {', '.join(sorted(few))}")
    settings = {
        key: value if isinstance(value, int | float) else str(value)
        for key, value in vars(args).items()
        if key not in ("output", "summary", "about") and value is not None
    }
    document = {"settings": settings, "results": []}
    if args.output.exists():
        document = json.loads(args.output.read_text())
    results = document["results"]
    done = {(r["class"], r["draw"]) for r in results}
    given = {name: settings.get(name) for name in ("budget", "steps", "learning_rate")}
    options = {name: value for name, value in given.items() if value is not None}
    model = el.load(args.method)
    if args.image_size:
        if not isinstance(model, NetworkModel):
            parser.error(f"--image_size needs a network, received {args.method}")
        model = model.at_size(args.image_size)
    for name in names[:: args.every]:
        for draw in range(args.draws):
            if name in few or (name, draw) in done:
                continue
            own = args.shots, args.queries, draw, args.each, options
            results.append(measure(model, args.data / name, *own))
            last = results[-1]
            print(
                f"{100 * np.mean(last['iou']):5.1f} %  {name}, draw {draw}, "
                f"{last['seconds']:.1f} s",
                flush=True,
            )
            write_text(args.output, json.dumps(document, indent=1))
    summary = summarized(document, args.about or args.data.name)
    if args.summary:
        write_text(args.summary, json.dumps(summary, indent=1) + "\n")
    print(sentence(summary))


if __name__ == "__main__":
    main()
