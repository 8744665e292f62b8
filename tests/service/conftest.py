"""Servers, started once: one as users start it, one with tight limits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service.serving import MODEL, Server


@pytest.fixture(scope="session")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def temporary(tmp_path_factory):
    """The folder that the tight server takes for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture
def tight(temporary):
    """Starts a server with limits of one's own."""
    script = Path(__file__).with_name("tight_server.py")
    started = []

    def start(**limits):
        running = Server(arguments=[str(script), str(MODEL), json.dumps(limits)], TMPDIR=str(temporary))
        started.append(running)
        return running

    yield start
    for running in started:
        running.__exit__()
        assert "Traceback" not in running.said, running.said


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A JPEG file's path, odd in size."""
    y, x = np.mgrid[0:75, 0:101]
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(np.stack([x * 2, y * 3, 255 - x - y], -1).astype(np.uint8)).save(path, quality=92)
    return path


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A PNG file that takes a worker about a tenth of a second."""
    noise = np.random.default_rng(1).integers(0, 256, (700, 1500, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photo") / "large.png"
    Image.fromarray(noise).save(path, compress_level=1)
    return path
