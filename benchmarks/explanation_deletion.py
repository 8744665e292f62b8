"""Does the heat map of `bdd detect --explain` point at what decides? Deletion test (Samek et al. 2017).

Of each image the share of the pixels that the map calls most telling for the verdict is blurred: another change
than the one that made the map. The logit is to fall towards the other class, and further than for equally many
pixels chosen by a map of another image of the same class, which has the same shapes and knows nothing of this image.

    python benchmarks/explanation_deletion.py [--model M.tflite] --images cifake/test --count 200
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image, ImageFilter

from bdd_tf.edge import Detector, find_images, load_image
from bdd_tf.edge.explanation import Occlusion
from bdd_tf.errors import BddError

SHARE = 0.2


def deletion(explain: Occlusion, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How far the logit falls towards the other class, by the image's own map and by another image's.

    Args:
        explain: The explainer.
        images: uint8 [S, S, 3] each.

    Returns:
        Two float64 [N], positive where it falls.
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
            telling = sides[i] * values
            chosen = telling >= np.quantile(telling, 1 - SHARE)
            changed = np.where(chosen[..., None], blurred, image)
            results.append(sides[i] * (one.logit - explain.logits(changed[None])[0]))
    return np.array(own), np.array(others)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="M.tflite", help="default: the shipped model")
    parser.add_argument("--images", required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=200, help="images, evenly spread over the folder")
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
            f"{name:20} logit falls by {values.mean():5.2f} [{low:.2f}, {high:.2f}]  ({len(values)} images)"
        )
    print(f"own map tells more in {np.mean(own > others):.0%} of the images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
