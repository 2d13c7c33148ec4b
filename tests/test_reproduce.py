"""The papers' experiments from data to tables, on miniatures of the data."""

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from efficientlab_tf.errors import UserError
from tests.data import tiny_coco as coco
from tests.data.conftest import sbd, voc
from tests.data.converting import fill
from tests.data.test_davis import davis
from tests.data.tiny_dataset import tiny_dataset
from tests.data.tiny_voc import many, sbd_objects, voc_objects
from tests.forked import CONTEXT, run_forked
from tools import convert, reproduce
from tools.papers import PAPERS
from tools.plan import Plan, find_inputs

__all__ = ["davis", "sbd", "voc"]  # Fixtures.

ROOT = Path(__file__).parents[1]
CLASSES = ("airliner", "bus", "motorbike", "potted_plant", "television", "ant", "bee")


@pytest.fixture
def data(tmp_path, voc, sbd, davis):  # noqa: F811
    """A folder with a miniature of everything."""
    for name in CLASSES:
        folder = tmp_path / "fewshot_data" / "fewshot_data" / name
        fill(folder, folder, count=4)
    many(voc, sbd)
    sbd_objects(sbd)
    voc_objects(voc)
    lists = davis / "ImageSets" / "2017"
    (lists / "train.txt").write_text("bear\n")
    for classes in (771, 1000):
        (tmp_path / f"alexnet_{classes}.npz").write_bytes(b"")
    cups = [(coco.CUP, [coco.box(4, 4, 12, 12)], 0)]
    coco.write(tmp_path / "coco", 2017, val={name: cups for name in "abcd"})
    for name in ("icons", "ccp"):
        tiny_dataset(tmp_path / "converted" / name, {"one": 2})
    return tmp_path


def test_inputs_are_found_in_their_layouts(data):
    found = find_inputs(data)
    assert {name: str(path.relative_to(data)) for name, path in found.items()} == {
        "FSS-1000": "fewshot_data/fewshot_data",
        "VOC": "VOC2012",
        "SBD": "benchmark_RELEASE/dataset",
        "DAVIS": "DAVIS",
        "alexnet_1000": "alexnet_1000.npz",
        "alexnet_771": "alexnet_771.npz",
        "COCO": "coco",
        "icons": "converted/icons",
        "ccp": "converted/ccp",
    }
    assert find_inputs(data / "VOC2012")["VOC"] == data / "VOC2012"


def planned(data, paper, output="out"):
    plan = Plan(find_inputs(data), data / output)
    PAPERS[paper](plan)
    return plan


@pytest.mark.parametrize("paper", PAPERS)
def test_every_file_of_a_plan_is_there_or_made_before(data, paper):
    plan = planned(data, paper)
    root, made, tuned = re.escape(str(data)), set(), set()
    for stage in plan.stages.values():
        own = stage.output.parent if "draw" not in stage.name else stage.output
        for option in stage.command[1:]:
            for path in re.findall(f"{root}[^=,: ]*", option):
                known = Path(path).exists() or path in made or path == str(own)
                known |= path in tuned
                assert known, (stage.name, path)
            if option.startswith("--flagfile="):
                path = option.partition("=")[2]
                assert Path(path).is_file() or path in tuned, option
        assert set(stage.needs) <= plan.stages.keys() | plan.inputs.keys()
        assert stage.name not in stage.needs
        assert str(own) not in made, "two stages write there"
        made.add(str(own))
        if stage.command[0] == "tune":
            tuned.add(str(own / "tuned.flags"))
    for row in plan.rows:
        assert set(row.stages) <= plan.stages.keys()
    assert len({(row.where, row.what) for row in plan.rows}) == len(plan.rows)


def test_every_conversion_of_a_plan(data):
    stages = {}
    for paper in PAPERS:
        stages |= planned(data, paper).stages
    conversions = [s for name, s in stages.items() if name.startswith("convert_")]
    assert len(conversions) == 7
    for stage in conversions:
        # Classes of one picture are left out, which is status 1.
        assert convert.main([*stage.command[1:], "--workers=1"]) in (0, 1)
        assert stage.output.is_file()


def _train():
    from efficientlab_tf import train
    from efficientlab_tf.training.loop import check

    train.define_flags()
    return lambda: check(train.config_from_flags())


def _evaluate():
    from efficientlab_tf import config, evaluate, flags

    evaluate.define_flags()
    return lambda: (flags.read(config.EvalConfig), flags.read(config.Settings))


def _compare():
    from efficientlab_tf import compare, config, flags
    from efficientlab_tf.evaluation.methods import parse_methods

    compare.define_flags()
    return lambda: parse_methods(flags.read(config.CompareConfig).methods)


def _tune():
    from efficientlab_tf import config, flags, tune

    tune.define_flags()
    return lambda: flags.read(config.TuneConfig)


def _fpk():
    from efficientlab_tf import flags, fpk

    fpk.define_flags()
    return lambda: flags.read(fpk.FpkConfig).steps_of


def _video():
    from efficientlab_tf import flags
    from efficientlab_tf.video import __main__ as video

    video.define_flags()
    return lambda: video.methods_of(flags.read(video.VideoConfig))


def _read_all(command: str, lines: list[tuple[str, ...]], problems) -> None:
    """Reads command lines as the command does, up to where it would begin."""
    define = {
        **{"train": _train, "evaluate": _evaluate, "compare": _compare},
        **{"tune": _tune, "fpk": _fpk, "video": _video},
    }[command]
    read, found = define(), []
    for line in lines:
        with flagsaver.flagsaver():
            try:
                absl_flags.FLAGS([command, *line])
                read()
            except (absl_flags.Error, UserError) as error:
                found.append((line, str(error)))
    problems.put(found)


def test_every_command_line_can_be_read(data):
    """Each flag exists, its value is one, and the settings suit each other."""
    lines: dict[str, list] = {}
    for paper in PAPERS:
        for stage in planned(data, paper).stages.values():
            lines.setdefault(stage.command[0], []).append(stage.command[1:])
            if stage.command[0] == "tune":
                stage.output.parent.mkdir(parents=True)
                flags = stage.output.with_name("tuned.flags")
                flags.write_text("--inner_learning_rate=0.5\n--inner_steps=7\n")
    for line in lines.pop("convert"):
        assert convert._parser().parse_args(line)
    figures = {line[0] for line in lines.pop("figure.py")}
    assert figures == {"activations", "conditioning", "shots"}
    assert lines.keys() == {"train", "evaluate", "compare", "tune", "fpk", "video"}
    for command, own in lines.items():
        problems = CONTEXT.SimpleQueue()
        process = CONTEXT.Process(target=_read_all, args=(command, own, problems))
        process.start()
        process.join(300)
        assert process.exitcode == 0
        assert problems.get() == []


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """Runs stages in processes that have TensorFlow already; lists their commands."""
    ran = []

    def run(line):
        ran.append(line[3:] if line[1] == "-m" else [Path(line[1]).stem, *line[2:]])
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        module = "__main__" if line[1] == "-m" else f"tools.{Path(line[1]).stem}"
        return run_forked(folder, module, *(line[3:] if line[1] == "-m" else line[2:]))

    def start(line):
        ended = run(line)
        print(ended.out, ended.err)
        return ended.status

    monkeypatch.setattr(reproduce, "start", start)
    monkeypatch.setattr(reproduce, "printed", lambda line: run(line)[1:])
    return ran


def tiny(data) -> list[str]:
    """Options that make a paper on FSS-1000 one of seconds."""
    lists = {"train": CLASSES[:3], "val": CLASSES[3:5], "test": CLASSES[5:]}
    for split, names in lists.items():
        (data / f"{split}.txt").write_text("\n".join(names))
    splits = "--splits=" + ",".join(f"{s}={data / s}.txt" for s in lists)
    training = f"train {splits} --image_size=32 --queries=2 --meta_batch=1 "
    training += "--meta_steps=2 --validate_every=1 --save_every=1 --val_episodes=1 "
    training += "--network=fcn --backbone=VGG16 --width=0.03125"
    return [
        *("--extra", training, "--extra", f"figure.py {splits} --layers=classifier"),
        *("--extra", "evaluate --eval_queries=1", "--extra", "convert --workers=1"),
    ]


def test_from_the_data_to_the_table(data, forked, capsys, monkeypatch):
    argv = ["meta_drn", "--data", str(data), "--output", str(data / "out")]
    argv += [*tiny(data), "--only", "meta_drn_fomaml"]
    assert reproduce.main([*argv, "--dry_run"]) == 0
    assert not (data / "out").exists() and not forked
    start = reproduce.start

    def killed(line):
        """A training dies behind its first step."""
        if "train" not in line:
            return start(line)
        start([*line, "--meta_steps=1"])
        return -signal.SIGKILL

    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "start", killed)
        assert reproduce.main(argv) == 2
    assert [line[0] for line in forked] == ["benchmark", "convert", "train"]
    out, err = capsys.readouterr()
    assert re.search(
        r"train_meta_drn_fomaml: 2 meta-steps of \d+\.\d\d s, \d\.\d h", out
    )
    assert "train_meta_drn_fomaml, evaluate_meta_drn_fomaml, draw_activ" in err
    report = data / "out" / "meta_drn.md"
    row = "| table I | fomaml, threshold 0.35 | 68.14 ± 0.01 |"
    assert f"{row} not yet |" in report.read_text()

    del forked[:]
    assert reproduce.main(argv) == 0
    assert [line[0] for line in forked] == ["train", "evaluate", "figure"]
    assert forked[0][-1] == "--resume"
    assert re.search(rf"{re.escape(row)} \d+\.\d\d ± \d+\.\d\d \|", report.read_text())
    assert "other settings than the paper's: train --splits=" in report.read_text()
    assert "| train_meta_drn_fomaml | 2 | " in report.read_text()
    assert (data / "out/results/activations_meta_drn_fomaml.png").is_file()

    del forked[:]
    assert reproduce.main(argv) == 0 and not forked
    with pytest.raises(UserError, match="made by another command; give another --out"):
        reproduce.main([*argv, "--extra", "train --seed=1"])


def test_numbers_are_read_where_commands_leave_them(data):
    for paper, stage, files, expected in (
        (
            "oslsm",
            "compare_oslsm_fold0",
            "method,shots,points,class_iou,class_iou_half_width\n"
            "oslsm,1,-1,0.25,0.01\noslsm,5,-1,0.5,0.02\nother,1,-1,0.75,0.03\n",
            {"oslsm, 1-shot, fold 0": (25, 1), "oslsm, 5-shot, fold 0": (50, 2)},
        ),
        (
            "hendryx",
            "fpk_fpk",
            "initialization,k,class,iou\nmeta,1,bus,0.25\nmeta,1,tv,0.75\n"
            "imagenet,1,bus,0.125\nmeta,400,bus,1\n",
            {"FP-k, meta-learned, 1 examples": (50, None)},
        ),
        (
            "guided",
            "video_davis",
            'method,sequence,J_mean\nguided,a,0.25\nguided,b,0.5\n"guided, 5 points",a,'
            '0.125\n"guided, 2 frames",a,1\n',
            {
                "DAVIS 2017, first frame, dense masks": (37.5, None),
                "DAVIS 2017, first frame, 5 points": (12.5, None),
            },
        ),
    ):
        plan = planned(data, paper)
        output = plan.stages[stage].output
        output.parent.mkdir(parents=True)
        (output.parent / "results.csv").write_text(files)
        rows = {row.what: row for row in plan.rows if row.stages == (stage,)}
        for what, values in expected.items():
            assert rows[what].read(output) == values


def test_seeds_and_percentages_in_the_table(data):
    means = {"plain_seed0": 0.5, "plain_seed1": 0.25, "no_decoder_seed0": 0.125}
    for name, mean in means.items():
        path = data / "out/results" / name / "summary.json"
        path.parent.mkdir(parents=True)
        iou = {"mean": mean, "half_width": mean / 4}
        path.write_text(json.dumps({"metrics": {"per_image_iou": iou}}))
    path = data / "out/results/many_shot/table.md"
    path.parent.mkdir(parents=True)
    path.write_text("")
    lines = ["method,shots,points,positive_iou,positive_iou_half_width"]
    for shots, own, other in ((1, 0.2, 0.5), (10, 0.25, 0.5), (100, 0.4, 0.8)):
        lines += [
            f"{method},{shots},-1,{iou},0.01"
            for method, iou in (("floor", 0.1), ("guided", own), ("supervised", other))
        ]
    path.with_name("results.csv").write_text("\n".join(lines))
    for paper in ("hendryx_small", "guided_small"):
        plan = planned(data, paper)
        (data / "out/done").mkdir(exist_ok=True)
        for stage in plan.stages.values():
            if stage.output.exists():
                marker = data / "out/done" / f"{stage.name}.txt"
                marker.write_text(shlex.join(stage.command))
        reproduce.Reproduction(plan, paper, {}).write_report()
    text = (data / "out/hendryx_small.md").read_text()
    row = "| table 2b | FOMAML without regularization | 77.89 |"
    assert f"{row} 37.50 (50.00 ± 12.50, 25.00 ± 6.25) |" in text
    assert "| table 2b | Reptile without regularization | 62.36 | not yet |" in text
    row = "| table 1, row 1 | no decoder | 75.66 |"
    assert f"{row} 12.50 (12.50 ± 3.12), 1 of 2 not yet |" in text
    text = (data / "out/guided_small.md").read_text()
    with (data / "out/guided_small.csv").open(newline="") as file:
        heads, *rows = csv.reader(file)
    for row in [heads, *rows]:
        assert f"| {' | '.join(row)} |" in text
    assert "guided in percent of supervised, 10 masks a class |  | 50.00 |" in text
    assert "supervised, 100 masks a class |  | 80.00 ± 1.00 |" in text
    assert "guided in percent of supervised, 100 masks a class | 95 | 50.00 |" in text


def test_what_is_not_there_is_left_out(data, forked, capsys, monkeypatch):
    (data / "VOC2012").rename(data / "VOC_gone")
    (data / "VOC_gone" / "SegmentationClass").rename(data / "VOC_gone" / "Masks")
    argv = ["guided", "--data", str(data), "--output", str(data / "out")]
    assert reproduce.main([*argv, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "train_guided_fold0: needs VOC\n" in out
    assert "convert_davis_train: \n" in out
    with pytest.raises(UserError, match="needs, which is VOC: VOC2012's folder"):
        reproduce.main([*argv, "--only", "fold0"])
    with pytest.raises(UserError, match="parts of names of stages, received 'flod'"):
        reproduce.main([*argv, "--only", "flod"])
    with pytest.raises(UserError, match="--data must be a folder"):
        reproduce.main(["guided", "--data", str(data / "nowhere")])
    for extra in ("train", "", " -x --seed=1"):
        with pytest.raises(UserError, match="--extra must be a command and options"):
            reproduce.main([*argv, "--extra", extra])


STAGE = """
import pathlib, signal, sys, time
def stop(*_):
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).write_text("started")
time.sleep(60)
"""
PROGRAM = """
import signal, sys
from tools import reproduce
signal.signal(signal.SIGTERM, signal.default_int_handler)
reproduce.run_command(lambda: reproduce.start([sys.executable, *sys.argv[1:]]))
"""


def test_a_stage_that_is_stopped_may_save(tmp_path):
    path = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "-c", STAGE, str(path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (path.is_file() and path.read_text() == "started"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 130
    assert path.read_text() == "saved"
