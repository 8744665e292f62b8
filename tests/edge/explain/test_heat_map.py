"""Heat maps: the photograph beside the network's view, and a colour scale that covers every value written."""

import numpy as np
import pytest
from PIL import Image

from bdd_tf.edge.explain.explanation import Explanation
from bdd_tf.edge.explain.heat_map import Photo, draw, scale_end
from bdd_tf.edge.images.box import Box


def made_up(most, box_value, channels=None):
    values = np.zeros((16, 16), np.float32)
    values[4, 5] = most
    box = Box(3, 3, 6, 6)
    return Explanation(
        "occlusion", "evidence", 0.0, values, box, box_value, channels or {}, "RGB alone", "own mean"
    )


@pytest.mark.parametrize("most", [0.0, 0.03, 0.1, 0.37, 1.0, 2.97, -9.99, 250.0])
@pytest.mark.parametrize("box_value", [0.0, 0.3, -4.55, 70.0])
def test_the_colour_scale_covers_every_value_that_is_written_and_ends_at_a_round_one(most, box_value):
    end = scale_end(made_up(most, box_value))
    assert max(abs(most), abs(box_value), 0.1) <= end * (1 + 1e-6)
    assert end <= 2 * max(abs(most), abs(box_value), 0.1)
    assert len(f"{end:g}".strip("0.").replace(".", "")) <= 2


def test_the_scale_marks_the_value_of_the_outlined_region():
    image = np.full((16, 16, 3), 128, np.uint8)
    marks = []
    for value in (4.0, 0.0, -4.0):
        picture = np.asarray(draw(image, made_up(1.0, value), "FAKE", "a").convert("L"))
        dark = np.flatnonzero((picture[62:382, 704:710] < 60).any(1))
        marks.append(dark.mean() / 320)
    # From top (FAKE) to bottom (REAL), inside the bar.
    assert marks == pytest.approx([0.06, 0.5, 0.94], abs=0.02)


def test_the_photograph_stands_beside_the_networks_view_and_shows_which_part_that_is():
    image = np.full((16, 16, 3), (0, 160, 0), np.uint8)
    pixels = np.zeros((300, 600, 3), np.uint8)
    pixels[:, :300], pixels[:, 300:] = (200, 0, 0), (0, 0, 200)
    photo = Photo(Image.fromarray(pixels), (1200, 600), Box(0, 0, 600, 600), Box(100, 100, 200, 200))
    found = made_up(1.0, 1.0)
    alone, beside = draw(image, found, "FAKE", "a"), draw(image, found, "FAKE", "a", photo=photo)
    assert beside.width == alone.width + 344
    picture = np.asarray(beside)
    # 1200x600 fills the width of the panel: the seen left half as it is, the other one paler.
    assert tuple(picture[62 + 150, 24 + 150]) == (200, 0, 0)
    assert picture[62 + 80, 24 + 240].tolist() == pytest.approx([140, 140, 230], abs=2)
    assert tuple(picture[62 + 165, 24 + 20]) == (255, 255, 255)  # below it
    assert tuple(picture[62 + 300, 368 + 20]) == (0, 160, 0)  # the network's view, to the right
    outlined = picture[62 + 27 : 62 + 80, 24 + 40 : 24 + 50]
    assert (outlined == 0).all(-1).any()
