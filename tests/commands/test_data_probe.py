import json

import pytest

from bdd_tf.cli import main
from tests.datasets import photo_archive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(folder, per_source=30)
    return folder


def test_a_probe_prints_a_report(folder, capsys):
    arguments = [
        "data",
        "probe",
        "photos",
        "--data-dir",
        str(folder),
        "--resolution",
        "96",
        "--images",
        "128",
    ]
    code = main([*arguments, "--hold-out", "gan,camera-a", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (1 if found["leaks"] else 0)
    assert found["hold_out"] == ["gan", "camera-a"]
    assert found["size"] == 96
    assert len(found["test"]) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cifake"], "knows the data set photos alone"),
        (["photos"], "needs --data-dir"),
        (["photos", "--data-dir", "nowhere"], "holds no manifest.csv"),
        (["photos", "--data-dir", "FOLDER", "--images", "3"], "--images must be at least 100"),
        (["photos", "--data-dir", "FOLDER", "--hold-out", "gen"], "unknown family or source"),
        (["photos", "--data-dir", "FOLDER", "--resolution", "4"], "size of crops is 4"),
    ],
)
def test_wrong_usage(folder, arguments, said, capsys):
    given = [str(folder) if word == "FOLDER" else word for word in arguments]
    assert main(["data", "probe", *given]) == 2
    assert said in capsys.readouterr().err
