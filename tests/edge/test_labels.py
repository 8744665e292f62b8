import pytest

from bdd_tf.edge.labels import FAKE, LABELS, REAL, verdict


def test_labels_are_named_by_their_numbers():
    assert (REAL, FAKE) == (0, 1)
    assert LABELS[REAL] == "REAL"
    assert LABELS[FAKE] == "FAKE"


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [(0.5, 0.5, "FAKE"), (0.49, 0.5, "REAL"), (0.0, 0.0, "FAKE"), (1.0, 1.0, "FAKE"), (0.99, 1.0, "REAL")],
)
def test_fake_begins_at_the_threshold(probability, threshold, expected):
    assert verdict(probability, threshold) == expected
