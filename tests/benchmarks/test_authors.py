"""The authors' side speaks to ours; what is missing is named."""

import os
import sys

import pytest

from benchmarks.authors import main
from benchmarks.probe import Probe
from efficientlab_tf.errors import UserError

FILES = {
    "tensorflow.py": "__version__ = '1.15'\ndef global_variables_initializer(): pass\n"
    "class train: GradientDescentOptimizer = None\n"
    "class Session:\n    def run(self, what): pass\n",
    "models/efficientlab.py": "class EfficientLab:\n"
    "    input_ph = label_ph = minimize_op = lr_ph = None\n"
    "    def __init__(self, n_rows, n_cols, **others): print('built')\n",
    "meta_learners/supervised_reptile/supervised_reptile/reptile.py": "class FOMLIS:\n"
    "    def __init__(self, session, train_shots, tail_shots):\n"
    "        assert (train_shots, tail_shots) == (5, 3)\n"
    "    def train_step(self, tasks, *network, num_shots, inner_iters, **others):\n"
    "        (task,) = tasks\n"
    "        pairs = task.sample(None, num_shots)\n"
    "        assert len(pairs) == task.batch_size == 5 and inner_iters == 2\n"
    "        image, mask = pairs[0]\n"
    "        assert image.shape == (8, 8, 3) and mask.shape == (8, 8, 2)\n"
    "        assert (mask.sum(-1) == 1).all()\n",
}


def test_a_step_of_what_the_authors_would_be(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    specification = {"authors": str(tmp_path), "image_size": 8, "shots": 2}
    specification |= {"queries": 3, "inner_steps": 2, "inner_batch": 8}
    with Probe("authors_probe", specification, sys.executable) as probe:
        assert probe.started.facts == {"tensorflow": "1.15"}
        step = probe.step()
    assert step.spent.wall > 0 and step.peak >= probe.started.before > 1e6


@pytest.mark.parametrize(
    ("python", "message"),
    [("nowhere", "expected a program"), (sys.executable, "no models/efficientlab.py")],
)
def test_what_is_missing_is_named(tmp_path, python, message):
    with pytest.raises(UserError, match=message):
        main([f"--python={python}", f"--authors={os.fspath(tmp_path)}"])
