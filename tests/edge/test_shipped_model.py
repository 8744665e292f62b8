"""Names of the bundled models."""

from pathlib import Path

import pytest

from bdd_tf.edge import Detector
from bdd_tf.edge.shipped_model import model_path, no_such_model, shipped_model, shipped_models
from bdd_tf.errors import UsageError


def folder_with(folder, *names):
    for name in names:
        (folder / f"{name}.tflite").touch()
    return folder


def test_without_a_model_the_message_says_how_to_get_one(tmp_path):
    with pytest.raises(UsageError, match=r"no model is shipped.*bdd convert"):
        shipped_model(folder=tmp_path)
    with pytest.raises(UsageError, match="no model is shipped"):
        model_path(None, tmp_path)


def test_photos_is_the_default_wherever_it_is_there(tmp_path):
    folder_with(tmp_path, "cifake-bnext-n")
    assert shipped_model(folder=tmp_path).stem == "cifake-bnext-n"
    folder_with(tmp_path, "photos-bnext-n", "another-net")
    assert shipped_model(folder=tmp_path).stem == "photos-bnext-n"
    assert list(shipped_models(tmp_path)) == ["photos", "cifake", "another"]


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    folder_with(folder, "photos-bnext-n")
    monkeypatch.chdir(tmp_path)
    Path("photos").touch()
    assert model_path("photos", folder) == folder / "photos-bnext-n.tflite"
    assert model_path("photos-bnext-n", folder) == folder / "photos-bnext-n.tflite"
    assert model_path("./photos", folder) == Path("photos")
    assert model_path(Path("photos"), folder) == Path("photos")
    assert model_path("x/m.tflite", folder) == Path("x/m.tflite")


def test_a_misspelt_name_of_a_bundled_model_is_corrected(tmp_path):
    assert str(no_such_model(Path("phots"), tmp_path)) == "no such model: phots"
    folder_with(tmp_path, "photos-bnext-n", "cifake-bnext-n")
    for wrong in ("phots", "Photos", "photos.tflite"):
        assert str(no_such_model(model_path(wrong, tmp_path), tmp_path)) == (
            f"no such model: {wrong}; bundled models: photos, cifake. Did you mean 'photos'?"
        )
    assert str(no_such_model(Path("x/phots"), tmp_path)) == "no such model: x/phots"
    with pytest.raises(UsageError, match=r"no such model: x+; bundled models: photos, .*\.$"):
        Detector("x" * 300)


def test_two_models_of_a_data_set_are_told_apart_by_their_whole_names(tmp_path):
    folder_with(tmp_path, "cifake-bnext-n", "cifake-bnext-t")
    assert set(shipped_models(tmp_path)) == {"cifake-bnext-n", "cifake-bnext-t"}
    with pytest.raises(UsageError, match="cifake-bnext-n"):
        shipped_model("cifake", tmp_path)
