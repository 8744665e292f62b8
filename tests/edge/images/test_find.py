"""Folders as users have them: every entry is an image, an error of its own, or counted with a reason."""

import os
import socket

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.images.decode import read_image
from bdd_tf.edge.images.errors import ImageError
from bdd_tf.edge.images.find import Census, find_images
from bdd_tf.edge.images.formats import is_image
from bdd_tf.edge.video.formats import is_video


def names(root, census=None):
    found = find_images([root], left_out=census.add if census else None)
    return [str(path.relative_to(root)) for path in found]


def test_images_are_found_by_their_content(tmp_path):
    picture = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    for i, form in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")):
        picture.save(tmp_path / f"{i}", form, **({"save_all": True} if form == "MPO" else {}))
    picture.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[picture])
    picture.save(tmp_path / "b.apng", "PNG", save_all=True, append_images=[picture.rotate(90)])
    picture.save(tmp_path / "c.jif", "JPEG")
    for name, content in (
        ("notes.txt", b"BMW and other makes"),
        ("empty", b""),
        (".DS_Store", b"x"),
        ("d.zip", b"PK"),
    ):
        (tmp_path / name).write_bytes(content)
    census = Census()
    found = names(tmp_path, census)
    assert found == [*"01234567", "a.mpo", "b.apng", "c.jif"]
    assert all(abs(int(read_image(tmp_path / name)[0, 0, 0]) - 90) < 4 for name in found)
    assert census.reasons == {"of another kind": 2, "empty": 1, "hidden": 1}
    assert "4 entries were left out: 2 of another kind (d.zip, ...)" in census.summary()


@pytest.mark.parametrize(
    ("head", "package"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow-jxl-plugin"),
    ],
)
def test_formats_of_other_packages_are_found_and_name_the_package(tmp_path, head, package):
    (tmp_path / "IMG_0001").write_bytes(head + bytes(300))
    assert names(tmp_path) == ["IMG_0001"]
    with pytest.raises(ImageError, match=f"pip install {package}|damaged"):
        read_image(tmp_path / "IMG_0001")
    assert not is_video(tmp_path / "IMG_0001")


def test_entries_that_cannot_be_examined_are_errors_of_their_own(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        server.bind("sock")
        census = Census()
        found = names(tmp_path, census)
    assert found == ["a.png", "dangling", "loop", "null.png", "pipe.png"]
    assert census.reasons == {"not a regular file": 2, "a folder that was searched before, through a link": 1}
    for name, reason in (
        ("loop", "leads back to itself"),
        ("dangling", "no such file"),
        ("null.png", "a device, not a regular file"),
        ("pipe.png", "a named pipe, not a regular file"),
        ("pipe", "a named pipe"),
        ("sock", "a socket"),
    ):
        assert not is_video(tmp_path / name)
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_files_of_proc_end(tmp_path):
    for name in ("/proc/self/status", "/proc/kmsg", "/proc/self/mem", "/proc/kcore"):
        if os.path.exists(name):  # noqa: PTH110
            assert not is_video(name)
            with pytest.raises(ImageError):
                read_image(name)


def test_a_known_beginning_is_checked_where_it_is_short():
    assert not is_image(b"BMW is no bitmap file at all, is it")
    assert not is_image(b"\xff\x0a")


def test_a_name_that_no_file_can_have_is_yielded_like_a_missing_file(tmp_path):
    names = [tmp_path / ("x" * 256), tmp_path / "a\0b"]
    assert list(find_images(names)) == names
