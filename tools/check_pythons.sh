#!/usr/bin/env bash
# The wheel on every Python that it is for, with the lowest and with the highest versions
# of its dependencies that pyproject.toml allows and that have a wheel there: installed
# into an empty environment, imported, and the quickstart run in its smallest form.
#
#   tools/check_pythons.sh               3.10, 3.11, 3.12 and 3.13; GBs and many minutes
#   tools/check_pythons.sh 3.10 3.13     these
#   ENDS=lowest tools/check_pythons.sh   one end of the bounds
#
# Needs uv (pip install uv), which takes the Pythons that it finds on PATH, or fetches
# them. pyenv shows those that PYENV_VERSION=3.10.13:3.11.7:3.12.1:3.13.0 names.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv > /dev/null || { echo "error: needs uv; pip install uv" >&2; exit 1; }
pythons=${*:-3.10 3.11 3.12 3.13}
ends=${ENDS:-lowest highest}
project=$PWD/pyproject.toml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export UV_NO_PROGRESS=1
unset PYTHONPATH

# A copy, as builds leave files behind that the next one would take in.
mkdir "$work/source"
git ls-files -z --cached --others --exclude-standard |
    xargs -0 cp --parents -t "$work/source"
uv build --quiet --out-dir "$work" "$work/source"
cd "$work"

failed=()
check() {
    local python=$1 end=$2 resolution=highest
    [[ $end == highest ]] || resolution=lowest-direct
    # uv would keep to the versions of a file that is there.
    rm -rf venv run versions.txt
    uv venv --quiet --python "$python" venv &&
        uv pip compile --quiet --resolution "$resolution" --only-binary :all: \
            --python venv/bin/python -o versions.txt "$project" &&
        uv pip install --quiet --python venv/bin/python --only-binary :all: \
            -c versions.txt ./*.whl &&
        uv pip check --quiet --python venv/bin/python &&
        venv/bin/efficientlab quickstart --flagfile=quickstart.flags \
            --run_dir=run --image_size=32 --meta_steps=1 --validate_every=1 \
            --val_episodes=1 --shots=1 --queries=1 > log.txt 2>&1 &&
        grep -q "^meta-learning gained " log.txt
}
for python in $pythons; do
    for end in $ends; do
        : > log.txt
        if check "$python" "$end"; then
            echo "OK: Python $python, $end:" \
                "$(grep -E '^(keras|numpy|scipy|tensorflow)==' versions.txt | xargs)"
        else
            tail -n 20 log.txt
            echo "FAILED: Python $python, $end"
            failed+=("$python, $end")
        fi
    done
done
((${#failed[@]} == 0)) || exit 1
