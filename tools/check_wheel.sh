#!/usr/bin/env bash
# What a user gets: builds a source distribution, from that the wheel, installs it into
# an empty environment, and segments pictures in a folder outside of the checkout.
#
#   tools/check_wheel.sh          lends it the dependencies of $PYTHON (.venv/bin/python)
#   tools/check_wheel.sh --full   installs the dependencies, too
#
# DIST=FOLDER keeps both distributions there if all went well.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
constraints=$PWD/constraints.txt
dist=${DIST:+$(realpath -m "$DIST")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copy, as builds leave files behind that the next one would take in.
mkdir "$work/source" "$work/outside"
git ls-files -z --cached --others --exclude-standard |
    xargs -0 cp --parents -t "$work/source"
"$python" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip -q --disable-pip-version-check "$@"; }
pip install "setuptools>=77"
(cd "$work/source" && "$work/venv/bin/python" -c \
    'import setuptools.build_meta as b; b.build_sdist("..")' > "$work/sdist.log") ||
    { cat "$work/sdist.log"; exit 1; }
pip wheel --no-deps --no-build-isolation -w "$work" "$work"/*.tar.gz
if [[ "${1:-}" == --full ]]; then
    pip install -c "$constraints" "$work"/*.whl
else
    pip install --no-deps "$work"/*.whl
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        > "$("$work/venv/bin/python" -c \
            'import sysconfig; print(sysconfig.get_path("purelib"))')/lent.pth"
fi

cd "$work/outside"
unset PYTHONPATH
"$work/venv/bin/efficientlab" --help > help.txt
grep -q "^  adapt  *[A-Z]" help.txt
"$work/venv/bin/efficientlab" convert --help > help.txt
grep -q "^    fss1000  *FSS-1000" help.txt
"$work/venv/bin/efficientlab" demo --output shown | grep "^expected IoU on new pictures"
test -s shown/results/contact_sheet.png
"$work/venv/bin/python" - <<'END'
from pathlib import Path

from PIL import Image

for name in ("ant", "bee"):
    folder = Path("source", name)
    folder.mkdir(parents=True)
    for index in (1, 2):
        Image.new("RGB", (8, 8), (index, 9, 9)).save(folder / f"{index}.jpg")
        Image.new("L", (8, 8), 255).save(folder / f"{index}.png")
END
for start in efficientlab "python -m efficientlab_tf"; do
    "$work/venv/bin/"$start convert fss1000 --input_dir source --output_dir converted \
        --workers 2 --overwrite | grep "2 classes, 4 examples"
done
"$work/venv/bin/python" -m efficientlab_tf verify converted | grep "^OK: "
"$work/venv/bin/efficientlab" inspect converted | grep "^all  *2  *4"
"$work/venv/bin/python" - <<'END'
import importlib.metadata
import io
import sys

import efficientlab_tf as el

assert el.__file__.startswith(sys.prefix), el.__file__
assert "tensorflow" not in sys.modules, "importing the package imports TensorFlow"
top = {file.parts[0] for file in importlib.metadata.files("efficientlab_tf")}
assert {name for name in top if "." not in name} == {"efficientlab_tf"}, top
files = map(str, importlib.metadata.files("efficientlab_tf"))
tools = {file.split("/")[-1] for file in files if "efficientlab_tf/tools/" in file}
carried = {"__init__.py", "convert.py", "verify.py", "inspect_dataset.py"}
assert {name for name in tools if name.endswith(".py")} == carried, tools
names = el.shipped()
assert names and all(names.values()), names

model = el.load("icons_fomaml_lite0")
assert el.shipped() == names  # The module of that name does not hide it.

import numpy as np
from PIL import Image

from efficientlab_tf.data.samples import read_sample
from efficientlab_tf.shipped import FLAGFILES

assert FLAGFILES.is_relative_to(sys.prefix) and any(FLAGFILES.iterdir())
pairs = [
    [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    for _, *files in read_sample("icons: rocket")
]
# Each of a size of its own.
pairs = [(image[i:, 2 * i :], mask[i:, 2 * i :]) for i, (image, mask) in enumerate(pairs)]
images, masks = zip(*pairs[:5])
pictures, truths = zip(*pairs[5:])

adapted = model.adapt(list(images), list(masks))
found = adapted.predict(list(pictures))


def iou(masks):
    counts = [((m & t).sum(), (m | t).sum()) for m, t in zip(masks, truths)]
    return np.mean([both / either for both, either in counts])


for mask, picture in zip(found, pictures, strict=True):
    assert mask.dtype == np.uint8 and mask.shape == picture.shape[:2]
    assert set(np.unique(mask)) <= {0, 1}
everything = [np.ones_like(truth) for truth in truths]
print(f"{len(found)} pictures: IoU {iou(found):.3f}, of all foreground {iou(everything):.3f}")
assert iou(found) > 2 * iou(everything)
END
if [[ -n "$dist" ]]; then
    mkdir -p "$dist"
    cp "$work"/*.tar.gz "$work"/*.whl "$dist"
fi
echo "the wheel holds what it needs"
