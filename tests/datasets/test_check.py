import argparse
import json
import subprocess
import sys

import pytest
from PIL import Image

from bdd_tf.commands import data
from bdd_tf.datasets.sources import SOURCES
from bdd_tf.errors import UsageError


@pytest.fixture
def bdd_data(cache, monkeypatch, capsys):
    monkeypatch.setenv("BDD_CACHE", str(cache))

    def run(*arguments):
        parser = argparse.ArgumentParser()
        data.add_arguments(parser)
        code = data.main(parser.parse_args([str(a) for a in arguments]))
        return code, capsys.readouterr().out

    return run


def test_list_names_every_data_set(bdd_data):
    code, out = bdd_data("list")
    assert code == 0
    for source in SOURCES.values():
        assert source.layout in out
        assert source.licence in out
        assert source.page in out
    assert [row["name"] for row in json.loads(bdd_data("list", "--json")[1])] == list(SOURCES)


def test_check_counts_and_finds_duplicates(split_tree, bdd_data):
    Image.open(split_tree / "train/FAKE/1.png").save(split_tree / "test/FAKE/leak.bmp")
    Image.open(split_tree / "test/REAL/1.png").save(split_tree / "test/REAL/twin.bmp")
    Image.open(split_tree / "test/REAL/2.png").save(split_tree / "test/FAKE/both.bmp")
    code, out = bdd_data("check", "folder", "--data-dir", split_tree, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["images"]["test"] == {"REAL": 7, "FAKE": 8}
    assert found["images"]["train"]["REAL"] + found["images"]["validation"]["REAL"] == 40
    assert found["sizes"] == {"32x32": 95}
    assert found["unreadable"] == []
    assert found["duplicates"]["within"] == {"test/REAL": 1}
    across = found["duplicates"]["across"]
    assert across.pop("test/FAKE = test/REAL") == 1
    assert list(across.values()) == [1]
    assert next(iter(across)) in ("test/FAKE = train/FAKE", "test/FAKE = validation/FAKE")
    assert "repeated within test/REAL: 1" in bdd_data("check", "folder", "--data-dir", split_tree)[1]


def test_check_names_every_unreadable_file_and_says_so_in_its_exit_code(split_tree, bdd_data):
    for i in range(12):
        (split_tree / f"test/REAL/bad{i}.jpg").write_bytes(b"")
    code, out = bdd_data("check", "folder", "--data-dir", split_tree)
    assert code == 1
    assert all(f"test/REAL/bad{i}.jpg: the file is empty" in out for i in range(12))
    assert (
        len(json.loads(bdd_data("check", "folder", "--data-dir", split_tree, "--json")[1])["unreadable"])
        == 12
    )


def test_sources_are_counted(image, tmp_path, bdd_data):
    for i in range(30):
        image(tmp_path / "t/FAKE" / ("gan", "diffusion")[i % 2] / f"{i}.png", i)
        image(tmp_path / "t/REAL" / f"{i}.png", 100 + i)
    found = json.loads(bdd_data("check", "folder", "--data-dir", tmp_path / "t", "--json")[1])
    assert {name: sum(places.values()) for name, places in found["sources"].items()} == {
        "gan": 15,
        "diffusion": 15,
    }


def test_wrong_usage(bdd_data):
    with pytest.raises(UsageError, match=r"needs a folder.*the name.*cifake"):
        bdd_data("check")
    with pytest.raises(UsageError, match="Did you mean 'folder'"):
        bdd_data("check", "foldr")
    with pytest.raises(SystemExit) as stop:
        bdd_data("chek", "folder")
    assert stop.value.code == 2


def test_a_path_alone_is_enough(split_tree, bdd_data):
    by_name = bdd_data("check", "folder", "--data-dir", split_tree, "--json")
    assert bdd_data("check", split_tree, "--json") == by_name
    assert bdd_data("check", "--data-dir", split_tree, "--json") == by_name


def test_prepare_then_load(split_tree, bdd_data):
    code, out = bdd_data("prepare", "folder", "--data-dir", split_tree, "--resolution", "16", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["images"]["test"] == {"REAL": 6, "FAKE": 6}
    assert "-16-16-" in found["folder"]


def test_checking_does_without_tensorflow():
    code = "import sys, bdd_tf.datasets.check; print('tensorflow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"
