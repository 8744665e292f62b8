"""`bdd detect` in this process, and images to score."""

import argparse

import numpy as np
from PIL import Image

from bdd_tf.commands import detect


def parse(*arguments):
    parser = argparse.ArgumentParser()
    detect.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def run_detect(capsys, *arguments):
    """The exit code, standard output and standard error."""
    code = detect.main(parse(*arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write_noise(root, names, height, width):
    random = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
