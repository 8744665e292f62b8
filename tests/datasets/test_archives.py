import io
import os
import stat
import tarfile
import zipfile

import pytest

from bdd_tf.datasets.archive_names import is_archive
from bdd_tf.datasets.archives import FLOOR_FILES, unpack
from bdd_tf.errors import BddError


def tar_of(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("tbz2", "w:bz2")]
)
def test_tar_comes_out_as_it_went_in(tmp_path, cache, suffix, mode):
    archive = tar_of(tmp_path / f"a.{suffix}", [("x/REAL/1.png", b"one"), ("x/2.png", b"two")], mode)
    folder = unpack(archive, cache)
    assert (folder / "x/REAL/1.png").read_bytes() == b"one"
    assert (folder / "x/2.png").read_bytes() == b"two"
    assert is_archive(archive)


def test_zip_comes_out_as_it_went_in(tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.mkdir("x") if hasattr(pack, "mkdir") else None
        pack.writestr("x/1.png", b"one")
    assert (unpack(tmp_path / "a.zip", cache) / "x/1.png").read_bytes() == b"one"


def test_unchanged_archive_is_unpacked_once_and_a_changed_one_again(tmp_path, cache, capsys):
    archive = tar_of(tmp_path / "a.tar", [("1.png", b"one")])
    first = unpack(archive, cache)
    before = (first / "1.png").stat().st_mtime_ns
    assert unpack(archive, cache) == first
    assert (first / "1.png").stat().st_mtime_ns == before
    assert capsys.readouterr().err.count("unpacking") == 1
    tar_of(archive, [("1.png", b"uno")])
    os.utime(archive, ns=(0, 12345))
    assert (unpack(archive, cache) / "1.png").read_bytes() == b"uno"


ESCAPES = [
    "../out.png",
    "x/../../out.png",
    "/tmp/out-of-archive.png",
    "C:/out.png",
    "..\\out.png",
    "a/b/../../../o",
]
HOSTILE = [
    *[pytest.param([(name, b"x")], "outside", id=name) for name in ESCAPES],
    pytest.param([(special("link.png", tarfile.SYMTYPE, "/etc/passwd"), b"")], "link", id="symlink"),
    pytest.param(
        [(special("d", tarfile.SYMTYPE, ".."), b""), ("d/out.png", b"x")],
        "link",
        id="through a symlinked folder",
    ),
    pytest.param([("a", b"x"), (special("b", tarfile.LNKTYPE, "../../a"), b"")], "link", id="hard link"),
    pytest.param([(special("dev", tarfile.CHRTYPE), b"")], "device", id="device"),
    pytest.param([(special("pipe", tarfile.FIFOTYPE), b"")], "device", id="pipe"),
]


@pytest.mark.parametrize(("members", "word"), HOSTILE)
def test_hostile_tar_is_refused_and_nothing_stays(tmp_path, cache, members, word):
    archive = tar_of(tmp_path / "a.tar", [("fine.png", b"x"), *members])
    with pytest.raises(BddError, match=rf"refused.*{word}"):
        unpack(archive, cache)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.tar"]
    assert list((cache / "unpacked").iterdir()) == []


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out-of-archive.png", "x\\..\\..\\out.png"])
def test_zip_that_escapes_is_refused(tmp_path, cache, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.writestr(name, b"x")
    with pytest.raises(BddError, match="outside"):
        unpack(tmp_path / "a.zip", cache)


def test_zip_with_a_link_is_refused(tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        pack.writestr(info, "/etc/passwd")
    with pytest.raises(BddError, match="link"):
        unpack(tmp_path / "a.zip", cache)


def test_bomb_by_size_is_refused_before_it_fills_the_disk(tmp_path, cache):
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as pack,
        pack.open("0.png", "w") as out,
    ):
        for _ in range(80):
            out.write(bytes(1 << 20))
    assert (tmp_path / "a.zip").stat().st_size < 1 << 20
    with pytest.raises(BddError, match="would unpack to more than"):
        unpack(tmp_path / "a.zip", cache)


def test_bomb_by_count_is_refused(tmp_path, cache):
    archive = tar_of(tmp_path / "a.tar.gz", [(f"{i}/", b"") for i in range(FLOOR_FILES + 1)], "w:gz")
    assert archive.stat().st_size < FLOOR_FILES * 64
    with pytest.raises(BddError, match="would unpack to more than"):
        unpack(archive, cache)


@pytest.mark.parametrize("cut", [0, 100, 0.6])
@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_damaged_archive_is_one_sentence(tmp_path, cache, suffix, cut):
    whole = tmp_path / f"whole.{suffix}"
    content = os.urandom(20_000)
    if suffix == "zip":
        with zipfile.ZipFile(whole, "w") as pack:
            pack.writestr("a.png", content)
    else:
        tar_of(whole, [("a.png", content)], f"w:{suffix[4:]}")
    data = whole.read_bytes()
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
    with pytest.raises(BddError, match="cannot be unpacked"):
        unpack(broken, cache)
    assert not list((cache / "unpacked").iterdir())


def test_hidden_extra_entry_of_the_same_name_is_refused(tmp_path, cache):
    archive = tar_of(tmp_path / "a.tar", [("1.png", b"one"), ("1.png", b"two")])
    with pytest.raises(BddError, match="cannot be unpacked"):
        unpack(archive, cache)
