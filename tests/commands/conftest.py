"""Fixtures of the edge package's tests: `bdd detect` is tested with the same small models."""

from tests.edge.conftest import float_file, float_model, photo, save  # noqa: F401
