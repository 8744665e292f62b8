"""Names in pictures: letters of any alphabet can be told apart, and what no font has is escaped legibly."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from bdd_tf.edge import lettering
from bdd_tf.edge.lettering import fitted, length, write
from bdd_tf.edge.text import legible, visible


@pytest.fixture(autouse=True)
def no_system_fonts(monkeypatch):
    """As on a board without any font."""
    monkeypatch.setattr(lettering, "_SYSTEM", ())
    for cache in (lettering._font, lettering._has, lettering._first_font):
        cache.cache_clear()
    yield
    for cache in (lettering._font, lettering._has, lettering._first_font):
        cache.cache_clear()


def drawn(text, anchor="la", at=(10, 10)):
    image = Image.new("L", (400, 60), 255)
    write(ImageDraw.Draw(image), at, text, 20, "black", anchor)
    return np.asarray(image)


@pytest.mark.parametrize("letters", ["aäàãâá", "uüùû", "sßşš", "żźž", "ЖЗИ", "αβγ", "–—-", "😀😎😭"])
def test_letters_of_other_alphabets_are_told_apart(letters):
    """Pillow's own font draws the same empty box for all of them."""
    pictures = [drawn(letter) for letter in letters]
    assert len({picture.tobytes() for picture in pictures}) == len(letters)
    assert all((picture < 128).any() for picture in pictures)


def test_names_from_macos_are_drawn_as_those_from_linux():
    name = "Größe Zoë.jpg"
    assert unicodedata.normalize("NFD", name) != name
    np.testing.assert_array_equal(drawn(unicodedata.normalize("NFD", name)), drawn(name))


def test_plain_names_look_as_before():
    image = Image.new("L", (400, 60), 255)
    ImageDraw.Draw(image).text((10, 10), "photo (1).jpg", "black", font=ImageFont.load_default(20))
    np.testing.assert_array_equal(drawn("photo (1).jpg"), np.asarray(image))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("party 🎉.jpg", "party <U+1F389>.jpg"),
        ("中.jpg", "<U+4E2D>.jpg"),
        ("gr\udcfcn.jpg", "gr<0xFC>n.jpg"),
        ("a\x1b[2J\nb", "a<U+001B>[2J<U+000A>b"),
        ("a\u202egpj.exe", "a<U+202E>gpj.exe"),
        ("❤\ufe0f", "<U+2764>"),
        ("u\u0308ber", "über"),
        ("a\u200db", "a<U+200D>b"),
        ("", ""),
    ],
)
def test_what_the_font_lacks_is_escaped(text, expected):
    assert legible(text, lambda c: ord(c) < 0x250) == expected


def test_a_name_with_a_rare_character_is_drawn_with_its_escape():
    np.testing.assert_array_equal(drawn("ü 🎉"), drawn("ü <U+1F389>"))


@pytest.mark.parametrize("text", ["short", "x" * 500, "ä😀🎉" * 100, ""])
@pytest.mark.parametrize("width", [0, 50, 200, 2000])
def test_fitted_text_keeps_the_end_and_the_width(text, width):
    cut = fitted(text, 14, width)
    assert length(cut, 14) <= max(width, length("...", 14))
    if cut != legible(text, lettering._drawable):
        assert cut.startswith("...")
        assert legible(text, lettering._drawable).endswith(cut[3:])
    else:
        assert length(text, 14) <= width


@pytest.mark.parametrize("text", ["grün", "ab😀", "plain"])
def test_anchors_place_text_of_several_fonts_as_of_one(text, monkeypatch):
    """Where one font had everything, a mixture ended, and stood, at the same places."""
    for anchor in ("la", "ra", "ma", "lm", "rm", "ls", "ld"):
        whole = drawn(text, anchor, (200, 30))
        rows, columns = (np.flatnonzero((whole < 128).any(axis)) for axis in (1, 0))
        if anchor[0] == "r":
            assert columns.max() <= 201
        if anchor[0] == "l":
            assert columns.min() >= 199
        if anchor[1] == "a":
            assert rows.min() >= 28
        if anchor[1] == "d":
            assert rows.max() <= 31


def test_the_joined_emoji_of_a_name_stays_one_and_controls_are_escaped():
    family = "👩\u200d👩\u200d👧.jpg"
    assert visible(family) == family
    assert visible("a\u200db\u202ec\x1b") == "a\\u200db\\u202ec\\x1b"
    assert visible("\u200d") == "\\u200d"


def test_the_font_comes_with_the_package_and_its_licence():
    program = (
        "from importlib.resources import files; f = files('bdd_tf.edge') / 'fonts';"
        "assert (f / 'BddSans.ttf').read_bytes()[:4] == bytes([0, 1, 0, 0]);"
        "assert 'DejaVu' in (f / 'LICENSE_DEJAVU').read_text()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
