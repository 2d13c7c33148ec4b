"""What exact second-order meta-gradients cost in time, memory and building.

Parts, each over one random task on the CPU, every measured thing in its own process:

  memory       peak memory of one MAML meta-step with ever more inner steps
  ratio        a MAML meta-step over the same without second derivatives
  build        building a MAML meta-step with many inner steps over few
  unrolled     MAML's gradient beside that of a tape around an unrolled inner loop
  learn2learn  beside learn2learn's MAML in PyTorch, on Meta-DRN in both frameworks

Memory is resident memory (VmHWM and VmRSS of Linux), imports included, until after
the first step. Building is tracing and the first step, less a later step. Steps that
are compared are taken in turns, and a ratio is the median over the pairs. CPU time is
that of all threads of a process: on a busy machine it says more than the clock.
Augmentation is left out.
"""

import argparse
import tempfile
from collections.abc import Callable

from benchmarks.against_learn2learn import compare, require_learn2learn
from benchmarks.comparison import (
    difference,
    gib,
    in_turns,
    median,
    medians,
    progress,
    ratio,
)
from benchmarks.probe import Probe, Spent, Step
from efficientlab_tf.errors import UserError

MEMORY_TARGET, RATIO_TARGET, BUILD_TARGET = 1.15, 4.0, 1.2


def main(argv: list[str] | None = None) -> int:
    """Measures the parts that were asked for and prints a table for each.

    Args:
      argv: command line arguments, see `--help`.

    Returns:
      The exit status.

    Raises:
      UserError: an argument that cannot be, or a package that is not there.
    """
    options = _options(argv)
    if "learn2learn" in options.parts:
        require_learn2learn()
    for part in options.parts:
        print(PARTS[part](options), flush=True)
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="second_order",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", default="memory,ratio,build,unrolled", help="joined by commas")
    add("--repeats", type=int, default=3, help="pairs behind a median")
    add("--network", choices=("efficientlab", "meta_drn"), default="efficientlab")
    add("--backbone", default="EfficientNetB0", help="of efficientlab")
    add("--width", type=float, default=1.0, help="of meta_drn: a factor on its filters")
    add("--image_size", type=int, default=224, help="of memory, ratio and build")
    add("--unrolled_size", type=int, default=96, help="image size of unrolled")
    add("--learn2learn_size", type=int, default=64, help="image size of learn2learn")
    add("--shots", type=int, default=5, help="of all but learn2learn, which has 1")
    add("--queries", type=int, default=5, help="of all but learn2learn, which has 2")
    add(
        "--inner_steps",
        default="1,5,10",
        help="three K: memory at each, build at the first and the last, ratio and "
        "unrolled at the second, learn2learn at the first and the second",
    )
    add("--threads", type=int, default=2, help="of both sides of learn2learn")
    options = parser.parse_args(argv)
    options.parts = options.parts.split(",")
    for part in options.parts:
        if part not in PARTS:
            raise UserError(
                f"--parts: expected some of {','.join(PARTS)}; received {part!r}"
            )
    given = options.inner_steps
    try:
        options.inner_steps = tuple(int(k) for k in given.split(","))
    except ValueError:
        options.inner_steps = ()
    if len(options.inner_steps) != 3 or min(options.inner_steps) < 1:
        raise UserError(
            "--inner_steps: expected three numbers from 1, such as 1,5,10; received "
            f"{given!r}"
        )
    for name in ("repeats", "shots", "queries", "threads"):
        value = getattr(options, name)
        if value < 1:
            raise UserError(f"--{name}: expected at least 1; received {value}")
    return options


def _memory(options: argparse.Namespace) -> str:
    starts = []
    for steps in progress(options.inner_steps, desc="memory"):
        with _meta_step(options, steps) as probe:
            starts.append(probe.started)
    rows = zip(options.inner_steps, starts, strict=True)
    return "\n".join(
        [
            f"memory: one MAML meta-step, {_setting(options, options.image_size)}",
            "    K  before the step        peak",
            *(f"  {k:>3}  {gib(s.before):>15}  {gib(s.peak):>10}" for k, s in rows),
            f"  peak at K={options.inner_steps[-1]} over K={options.inner_steps[0]}: "
            f"{starts[-1].peak / starts[0].peak:.3f} "
            f"(target: at most {MEMORY_TARGET})",
        ]
    )


def _ratio(options: argparse.Namespace) -> str:
    steps = options.inner_steps[1]
    with (
        _meta_step(options, steps) as exact,
        _meta_step(options, steps, first_order=True) as first,
    ):
        pairs = in_turns(exact, first, options.repeats, "ratio")
    *times, ratios = medians(pairs)
    names = "with second derivatives", "first-order MAML"
    return "\n".join(
        [
            f"ratio: one MAML meta-step, K={steps}, "
            f"{_setting(options, options.image_size)}",
            f"  {'':<24}    a step  CPU time",
            *(
                f"  {name:<24} {time.wall:7.2f} s {time.cpu:7.2f} s"
                for name, time in zip(names, times, strict=True)
            ),
            f"  ratio, median of {options.repeats} pairs: {ratios.wall:.2f} "
            f"(target: at most {RATIO_TARGET:g}), of CPU time {ratios.cpu:.2f}",
        ]
    )


def _build(options: argparse.Namespace) -> str:
    few, _, many = options.inner_steps
    builds, nodes = [], []
    for number in progress(range(2 * options.repeats), desc="build"):
        with _meta_step(options, many if number % 2 else few) as probe:
            builds.append(_build_time(probe, probe.step()))
            nodes.append(probe.started.facts["nodes"])
    sides = builds[::2], builds[1::2]
    ratios = median(ratio(m, f) for f, m in zip(*sides, strict=True))
    times = map(median, sides)
    return "\n".join(
        [
            f"build: one MAML meta-step, {_setting(options, options.image_size)}",
            "    K  to build  CPU time  nodes of the graph",
            *(
                f"  {k:>3} {time.wall:7.1f} s {time.cpu:7.1f} s  {count:>18}"
                for k, time, count in zip((few, many), times, nodes[:2], strict=True)
            ),
            f"  K={many} over K={few}, median of {options.repeats} pairs: "
            f"{ratios.wall:.3f} (target: at most {BUILD_TARGET}), of CPU time "
            f"{ratios.cpu:.3f}",
        ]
    )


def _unrolled(options: argparse.Namespace) -> str:
    size, steps = options.unrolled_size, options.inner_steps[1]
    # Dropout draws from the learner's seeds, which a hand-written loop does not know.
    still = {"final_dropout": 0.0, "drop_connect": 0.0}
    specification = _specification(
        options,
        size,
        {"inner_steps": steps},
        still if options.network == "efficientlab" else {},
    )
    names = ("gradient", "unrolled")
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.npz" for name in names]
        ours, tape = (
            {**specification, "step": name, "save": file}
            for name, file in zip(names, files, strict=True)
        )
        with Probe("tensorflow_probe", ours) as a, Probe("tensorflow_probe", tape) as b:
            pairs = in_turns(a, b, options.repeats, "unrolled")
        gradients = difference(*files)
    *times, ratios = medians(pairs)
    builds = [
        _build_time(probe, last) for probe, last in zip((a, b), pairs[-1], strict=True)
    ]
    rows = [
        f"  {name:<16} {time.wall:8.2f} s {time.cpu:7.2f} s {build.wall:7.1f} s "
        f"{build.cpu:7.1f} s {gib(probe.started.peak):>11}"
        for name, time, build, probe in zip(
            ("ours", "an unrolled tape"), times, builds, (a, b), strict=True
        )
    ]
    return "\n".join(
        [
            f"unrolled: MAML's gradient, K={steps}, {_setting(options, size)}, "
            "no dropout",
            f"  {'':<16}     a step  CPU time  to build  CPU time        peak",
            *rows,
            f"  ours over the tape, median of {options.repeats} pairs: "
            f"{ratios.wall:.2f}, of CPU time {ratios.cpu:.2f}; the gradients differ by "
            f"{gradients:.1e} relative",
        ]
    )


PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "memory": _memory,
    "ratio": _ratio,
    "build": _build,
    "unrolled": _unrolled,
    "learn2learn": compare,
}


def _meta_step(options: argparse.Namespace, steps: int, **learner) -> Probe:
    specification = _specification(
        options, options.image_size, {"inner_steps": steps, **learner}, {}
    )
    return Probe("tensorflow_probe", {**specification, "step": "meta_step"})


def _specification(
    options: argparse.Namespace, size: int, learner: dict, network: dict
) -> dict:
    """What `tensorflow_probe` is told, but for "step"; whole support set each step."""
    if options.network == "efficientlab":
        network = {"backbone": options.backbone, **network}
    else:
        network = {"width": options.width, **network}
    return {
        "network": [options.network, {"image_size": size, **network}],
        "learner": {"learner": "maml", "inner_batch": 0, **learner},
        "shots": options.shots,
        "queries": options.queries,
    }


def _build_time(probe: Probe, warm: Step) -> Spent:
    times = zip(probe.started.trace, probe.started.first, warm.spent, strict=True)
    return Spent(*(trace + first - later for trace, first, later in times))


def _setting(options: argparse.Namespace, size: int) -> str:
    network = (
        f"EfficientLab {options.backbone}"
        if options.network == "efficientlab"
        else f"Meta-DRN, width {options.width:g}"
    )
    return f"{network}, {size}x{size}, {options.shots} shots, {options.queries} queries"
