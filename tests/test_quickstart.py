"""`quickstart`: meta-training, and what it gains on classes that it has not seen."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.metrics import Interval
from efficientlab_tf.quickstart import LEARNED, UNTRAINED, Outcome, report

ROOT = Path(__file__).parent.parent


def test_it_trains_compares_and_names_the_sheet(tmp_path):
    manifest, parts = Manifest.load("sample:icons"), []
    for split, count in (("train", 3), ("val", 2), ("test", 3)):
        path = tmp_path / f"{split}.txt"
        path.write_text("\n".join(manifest.split(split)[:count]) + "\n")
        parts.append(f"{split}={path}")
    small = ["--meta_steps=1", "--image_size=32", "--meta_batch=1", "--val_episodes=1"]
    small += ["--stages=2,3"]
    run = subprocess.run(
        [sys.executable, "-m", "efficientlab_tf.quickstart"]
        + ["--flagfile=flags/quickstart.flags", f"--run_dir={tmp_path / 'run'}"]
        + [*small, f"--splits={','.join(parts)}", "--validate_every=1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    icons, nuclei, end = run.stdout.strip().split("\n\n")[-3:]
    for part, name, classes in (icons, "icons", 3), (nuclei, "nuclei", 2):
        assert f"{name}: {classes} classes held out of training, 5 labelled" in part
        assert part.count(" %") == 2 and "meta-learning gained " in part
    sheet = end.splitlines()[0].split()[-1]
    # A row for each of five classes, and five columns.
    assert Image.open(sheet).height > 5 * 32


def test_a_network_is_credited_with_its_better_statistics():
    protocol = SimpleNamespace(dataset="icons", classes=30, shots=5, steps=3)
    scores = [{"running": (0.1, 0.05), "support": (0.18, 0.03)}]
    scores.append({"running": (0.37, 0.05), "support": (0.32, 0.05)})
    tested = {
        name: Outcome(protocol, {mode: Interval(*iou) for mode, iou in own.items()}, [])
        for name, own in zip((UNTRAINED, LEARNED), scores, strict=True)
    }
    text = report(tested)
    assert text.endswith("meta-learning gained 19.0 points")
    assert "3 steps of adaptation" in text
    assert "  untrained     support  18.00 ± 3.00 %\n" in text
