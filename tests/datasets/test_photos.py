import numpy as np
import pytest
from PIL import Image

from bdd_tf.datasets.photos import COLUMNS, WHOLE, WHOLE_COLUMNS, Photo, read_files, read_manifest
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive


@pytest.fixture
def archive(tmp_path):
    rows = photo_archive.write(tmp_path, per_source=2)
    return tmp_path, rows


def test_a_manifest_is_read_row_by_row(archive):
    folder, rows = archive
    photos = read_manifest(folder)
    assert [photo.path for photo in photos] == [row["path"] for row in rows]
    first = photos[0]
    assert (first.label, first.split, first.source, first.family, first.kind) == (
        0,
        "train",
        "camera-a",
        "",
        "native",
    )
    assert first.short_side == rows[0]["width"]
    assert photos[-1].names == {"diffusion-2", "diffusion"}
    assert [len(content) for content in read_files(folder, photos)] == [
        (folder / photo.path).stat().st_size for photo in photos
    ]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("path", "../outside.jpg", "must be relative"),
        ("path", "/etc/passwd", "must be relative"),
        ("path", "a\\b.jpg", "must be relative"),
        ("path", "C:/x.jpg", "must be relative"),
        ("path", "train//x.jpg", "must be relative"),
        ("path", "train/none.jpg", "no file"),
        ("path", "train", "not a file"),
        ("label", "real", "label is 'real'"),
        ("split", "test", "split is 'test'"),
        ("kind", "cut", "kind is 'cut'"),
        ("scale", "nan", "scale is nan"),
        ("scale", "0", "scale is 0"),
        ("scale", "2", "scale is 2"),
        ("width", "-4", "width is -4"),
        ("height", "tall", "not a number"),
        ("quality", "101", "quality is 101"),
        ("content", "", "content is empty"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(archive, column, value, message):
    folder, rows = archive
    rows[3][column] = value
    photo_archive.save(folder, rows)
    with pytest.raises(UsageError, match=r"line 5") as error:
        read_manifest(folder)
    assert message in str(error.value)


def test_a_path_twice_and_many_faults(archive):
    folder, rows = archive
    photo_archive.save(folder, [*rows, rows[0]])
    with pytest.raises(UsageError, match="listed twice"):
        read_manifest(folder)
    for row in rows[:12]:
        row["label"] = "?"
    photo_archive.save(folder, rows)
    with pytest.raises(UsageError, match=r"12 bad rows[\s\S]*and 2 more"):
        read_manifest(folder)


def test_missing_files_columns_and_rows(archive):
    folder, rows = archive
    with pytest.raises(UsageError, match=r"holds no whole\.csv"):
        read_manifest(folder, WHOLE)
    photo_archive.save(folder, [])
    with pytest.raises(UsageError, match="lists no images"):
        read_manifest(folder)
    for row in rows:
        row.pop("content")
    photo_archive.save(folder, rows, [name for name in COLUMNS if name != "content"])
    with pytest.raises(UsageError, match="lacks the column content"):
        read_manifest(folder)
    (folder / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as CSV"):
        read_manifest(folder)


def test_whole_images_have_their_own_table(archive):
    folder, rows = archive
    whole = [{name: row[name] for name in WHOLE_COLUMNS} for row in rows[:4]]
    photo_archive.save(folder, whole, WHOLE_COLUMNS, WHOLE)
    photos = read_manifest(folder, WHOLE)
    assert {(photo.split, photo.kind, photo.scale) for photo in photos} == {("validation", "native", 1.0)}


def test_files_are_checked_before_they_are_used(archive, tmp_path_factory):
    folder, _ = archive
    photos = read_manifest(folder)
    (folder / photos[0].path).write_bytes(b"GIF89a, they say")
    with pytest.raises(UsageError, match=r"cannot be read as JPEG, PNG, WEBP"):
        read_files(folder, photos)
    Image.new("L", (9000, 1)).save(folder / photos[0].path)
    with pytest.raises(UsageError, match="9000x1 pixels"):
        read_files(folder, photos)
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    outside.write_bytes(photo_archive.jpeg(np.zeros((144, 144, 3), np.uint8), 90))
    (folder / photos[0].path).unlink()
    (folder / photos[0].path).symlink_to(outside)
    with pytest.raises(UsageError, match="leads out of"):
        read_files(folder, photos)


def test_the_short_side_is_that_of_the_whole_image_at_the_crops_scale():
    photo = Photo("p", 0, "train", "s", "", "c", "scaled", 0.5, 1200, 800)
    assert photo.short_side == 400
