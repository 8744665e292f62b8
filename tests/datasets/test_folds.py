import json

import pytest

from bdd_tf.datasets.folds import FOLDS, REAL_HELD_OUT, divide, divide_whole, hold_out_names
from bdd_tf.datasets.photos import OWN_DECODERS, Photo, read_manifest
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(folder, per_source=6)
    return read_manifest(folder)


@pytest.mark.parametrize("shared", ["test", "train"])
@pytest.mark.parametrize("hold_out", [("gan",), ("gan", "camera-b"), ("diffusion-2",), "camera-c, gan-1"])
def test_nothing_held_out_is_in_training_and_no_content_straddles(photos, hold_out, shared):
    fold = divide(photos, hold_out, shared)
    out = set(fold.hold_out)
    assert not any(photo.names & out for photo in (*fold.train, *fold.validation))
    assert all(photo.names & out for photo in fold.test)
    for other in (fold.test, fold.validation):
        assert not {p.content for p in fold.train} & {p.content for p in other}
        assert not {p.group for p in fold.train} & {p.group for p in other}
    listed = len(fold.train) + len(fold.validation) + len(fold.test) + sum(fold.left_out.values())
    assert listed == len(photos)


def test_who_gives_up_a_shared_content(photos):
    def has(part):
        return any(photo.content == "prompt-0" for photo in part)

    keeps, gives = (divide(photos, ("gan",), shared) for shared in ("test", "train"))
    assert has(keeps.train)
    assert not has(keeps.test)
    assert has(gives.test)
    assert not has(gives.train)


def test_reconstructions_of_held_out_photographs_are_held_out(photos):
    def own(photo):
        return Photo(
            f"own/{photo.path}", 1, "train", "decoder-1", OWN_DECODERS, photo.content, "native", 1, 300, 300
        )

    made = [own(photo) for photo in photos if photo.label == 0 and photo.split == "train"]
    fold = divide([*photos, *made], ("camera-a",))
    kept = [photo for photo in fold.train if photo.family == OWN_DECODERS]
    assert kept
    assert not any(photo.content.startswith("camera-a") for photo in kept)
    assert fold.left_out["reconstruction of a held-out photograph"] == len(made) - len(kept)


def test_names_from_a_file_and_unknown_ones(photos, tmp_path):
    file = tmp_path / "fold.json"
    file.write_text(json.dumps(["gan", "camera-a", "gan"]))
    assert hold_out_names(str(file), photos) == ("gan", "camera-a")
    with pytest.raises(UsageError, match=r"unknown family or source 'gam'.*Did you mean 'gan'"):
        hold_out_names("gam", photos)
    for content in ("{}", "[1]", "["):
        file.write_text(content)
        with pytest.raises(UsageError, match=r"fold\.json"):
            hold_out_names(str(file), photos)
    with pytest.raises(UsageError, match="leaves no FAKE images"):
        divide(photos, ("gan", "diffusion"))
    with pytest.raises(UsageError, match="unknown rule"):
        divide(photos, (), "both")


def test_every_fold_holds_out_the_same_real_sources():
    for names in FOLDS.values():
        assert set(REAL_HELD_OUT) <= set(names)


def test_whole_images_that_training_knows_are_left_out(photos):
    fold = divide(photos, ("gan", "camera-a"))
    parts = divide_whole(photos, fold)
    seen = {photo.content for photo in fold.train}
    assert all(photo.names & set(fold.hold_out) for photo in parts["test"])
    assert not any(photo.names & set(fold.hold_out) for photo in parts["validation"])
    assert not any(photo.content in seen for part in parts.values() for photo in part)
    assert parts["validation"] == list(fold.validation)
