import os

import pytest

from bdd_tf.cluster import inputs
from bdd_tf.cluster.inputs import BYTES, CSV, IMAGES, PARQUET, PATHS, SHARDS, Columns, columns_of, local_input
from bdd_tf.edge.images.find import find_images
from bdd_tf.errors import UsageError
from tests.cluster.images import write_images


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("files", "given", "kind"),
    [
        (["a/1.jpg"], "a", IMAGES),
        (["a/1.jpg"], "a/1.jpg", IMAGES),
        (["a/1.jpg", "a/2.jpg"], "a/*.jpg", IMAGES),
        (["list.csv"], "list.csv", CSV),
        (["t.parquet"], "t.parquet", PARQUET),
        (["t/part-0.parquet", "t/_SUCCESS"], "t", PARQUET),
        (["t/label=a/part-0.parquet"], "t", PARQUET),
        (["s/0.tar", "s/1.tar"], "s", SHARDS),
        (["s/0.tar", "s/1.tar"], "s/*.tar", SHARDS),
    ],
)
def test_kinds(tmp_path, monkeypatch, files, given, kind):
    monkeypatch.chdir(tmp_path)
    for file in files:
        touch(tmp_path / file)
    found = local_input([given])
    assert found.kind == kind
    assert not found.remote


def test_images_are_those_that_detect_finds(tmp_path):
    write_images(tmp_path, 3)
    touch(tmp_path / ".hidden.jpg")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "0000.jpg.explain.png")
    found = local_input([str(tmp_path)])
    listed = list(inputs.local_images(found))
    assert [entry.path for entry in listed] == [str(path) for path in find_images(tmp_path)]
    assert len(listed) == 3
    assert listed[0].size == (tmp_path / "0000.jpg").stat().st_size
    assert listed[0].modified == (tmp_path / "0000.jpg").stat().st_mtime_ns
    assert "3 entries were left out" in found.census.summary()


def test_a_link_that_leads_nowhere_is_listed_and_will_be_an_error_row(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert list(inputs.local_images(local_input([str(tmp_path)]))) == [
        (str(tmp_path / "gone.jpg"), None, None, None)
    ]


def test_tables_and_shards_list_their_files_without_hidden_ones(tmp_path):
    for name in ("b.parquet", "k=1/a.parquet", "_temporary/c.parquet", ".d.parquet"):
        touch(tmp_path / name)
    listed = inputs.local_files(local_input([str(tmp_path)]))
    assert [os.path.relpath(entry.path, tmp_path) for entry in listed] == ["b.parquet", "k=1/a.parquet"]


@pytest.mark.parametrize(
    ("files", "given", "sentence"),
    [
        ([], ["nonesuch"], "no such file or folder"),
        ([], [""], "no such file or folder"),
        (["a/1.jpg"], ["a/*.png"], "no file matches this pattern"),
        (["a/1.jpg", "b.csv"], ["a", "b.csv"], r"several kinds: .*images \(a\).*once for each"),
        (["s.tar.gz"], ["s.tar.gz"], "compressed archive; unpack it"),
        (["s.zip"], ["s.zip"], "compressed archive; unpack it"),
    ],
)
def test_wrong_inputs_are_one_sentence(tmp_path, monkeypatch, files, given, sentence):
    monkeypatch.chdir(tmp_path)
    for file in files:
        touch(tmp_path / file)
    with pytest.raises(UsageError, match=sentence):
        local_input(given)


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("s3a://bucket/a", True),
        ("hdfs://host:1/a", True),
        ("gs://b/c", True),
        ("file:///a", False),
        ("/a", False),
        ("a:b", False),
    ],
)
def test_only_other_schemes_are_remote(path, remote):
    assert inputs.is_remote(path) is remote


@pytest.mark.parametrize(
    ("types", "given", "columns"),
    [
        ([("path", "string")], None, Columns(PATHS, "path")),
        ([("file", "string"), ("label", "int")], None, Columns(PATHS, "file")),
        ([("path", "string"), ("label", "string")], None, Columns(PATHS, "path")),
        ([("a", "string"), ("b", "string")], "b", Columns(PATHS, "b")),
        ([("path", "string"), ("content", "binary")], None, Columns(BYTES, "content", "path")),
        ([("content", "binary")], None, Columns(BYTES, "content")),
        ([("path", "string"), ("content", "binary")], "path", Columns(PATHS, "path")),
        ([("image", "struct<bytes:binary,path:string>")], None, Columns(BYTES, "image.bytes")),
        ([("a", "binary"), ("b", "binary")], "b", Columns(BYTES, "b")),
    ],
)
def test_the_column_is_found(types, given, columns):
    assert columns_of(types, given) == columns


@pytest.mark.parametrize(
    ("types", "given", "sentence"),
    [
        (
            [("a", "string"), ("b", "string")],
            None,
            r"not clear; name it with --column. Columns: a \(string\), b",
        ),
        ([("a", "binary"), ("b", "binary")], None, "not clear"),
        ([("/photos/1.JPG", "string")], None, "like an image: a CSV table needs a header in its first row"),
        ([("n", "int")], None, "not clear"),
        ([("n", "int")], "n", "not clear"),
        ([("path", "string")], "file", r"no column 'file'; its columns: path \(string\)"),
    ],
)
def test_an_unclear_column_is_one_sentence(types, given, sentence):
    with pytest.raises(UsageError, match=sentence):
        columns_of(types, given)


def test_tables_of_paths(tmp_path):
    file = touch(tmp_path / "a.jpg")
    listed = list(inputs.table_paths([(str(file), "x"), ("/nonesuch.jpg", None)], None))
    assert listed == [(str(file), 1, file.stat().st_mtime_ns, "x"), ("/nonesuch.jpg", None, None, None)]
    with pytest.raises(UsageError, match="row 2 of the table has no path"):
        list(inputs.table_paths([(str(file), None), (None, None)], None))
