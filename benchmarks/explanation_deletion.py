"""Evaluate the heat maps of `bdd detect --explain` by a deletion test (Samek et al. 2017).

In each image, the pixels with the largest values for the verdict are blurred, a perturbation that differs from the one
that produced the map. If the map is valid, the logit moves towards the other class, and further than with the map of
another image of the same class, which has the same structure but does not depend on this image.

    python benchmarks/explanation_deletion.py [--model M.tflite] --images cifake/test --count 200
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bdd_tf.edge import Detector, find_images, load_image
from bdd_tf.edge.explain.occlusion import Occlusion
from bdd_tf.errors import BddError

#: Share of the pixels that are blurred.
SHARE = 0.2


def deletion(explain: Occlusion, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far the logit moves towards the other class, with the image's own map and with another image's.

    Args:
        explain: The explainer.
        images: N images, each uint8 [S, S, 3].

    Returns:
        Two arrays float64 [N]; positive values are moves towards the other class.
    """
    found = [explain(image) for image in images]
    sides = np.array([1 if one.logit >= 0 else -1 for one in found])
    own, others = [], []
    for i, (image, one) in enumerate(zip(images, found, strict=True)):
        same = [j for j in range(len(images)) if j != i and sides[j] == sides[i]]
        other = found[same[i % len(same)]] if same else one
        radius = len(image) / 16
        blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
        for results, values in ((own, one.values), (others, other.values)):
            evidence = sides[i] * values
            chosen = evidence >= np.quantile(evidence, 1 - SHARE)
            changed = np.where(chosen[..., None], blurred, image)
            results.append(sides[i] * (one.logit - explain.logits(changed[None])[0]))
    return np.array(own), np.array(others)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="M.tflite", help="the model; default: the model in the package")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="folder of the images")
    parser.add_argument("--count", type=int, default=200, help="number of images; default 200")
    args = parser.parse_args()
    try:
        with Detector(args.model) as detector:
            files: list[Path] = list(find_images([args.images]))
            files = files[:: max(1, len(files) // args.count)][: args.count]
            images = [load_image(file, detector.resize) for file in files]
            own, others = deletion(Occlusion(detector), images)
    except BddError as error:
        print(f"explanation_deletion: {error}", file=sys.stderr)
        return error.exit_code
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(own), (2000, len(own)))
    for name, values in (("own map", own), ("another image's map", others), ("difference", own - others)):
        low, high = np.quantile(values[picks].mean(1), (0.025, 0.975))
        print(
            f"{name:20} logit moves by {values.mean():5.2f} [{low:.2f}, {high:.2f}]  ({len(values)} images)"
        )
    print(f"the own map has the larger effect in {np.mean(own > others):.0%} of the images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
