import re

from benchmarks.episodes import main
from tests.data.tiny_dataset import tiny_dataset


def test_reports_start_and_rate(tmp_path, capsys):
    manifest = tiny_dataset(tmp_path / "tiny", {"bear": 3, "cup": 4, "dog": 3})
    arguments = ["--dataset_dir", str(manifest.directory), "--image_size", "32"]
    arguments += ["--shots", "1", "--queries", "2", "--seconds", "0.2"]
    for more, expected in (
        ([], "3 classes, 10 pairs"),
        (["--classes", "5"], "5 classes"),
        (["--augment", "0.5", "--shots", "2", "--queries", "1"], "each change at 0.5"),
    ):
        assert main([*arguments, *more]) == 0
        output = capsys.readouterr().out
        assert expected in output
        assert float(re.search(r"first episode after (\S+) s", output)[1]) >= 0
        assert int(re.search(r"(\d+) episodes/s of \d \+ \d pairs", output)[1]) > 0
