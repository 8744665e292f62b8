"""The forensic channels of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bdd_tf.figures.gallery import _show
from bdd_tf.figures.style import draw


def channels(path: str | Path, image: np.ndarray, maps: dict[str, np.ndarray], *, title: str = "") -> Path:
    """Draw an image and its channel maps, each on its own grey scale with its range below.

    Args:
        path: The PNG to write.
        image: uint8 [H, W, 3].
        maps: Name -> values [H, W].
        title: Title of the figure.

    Returns:
        The path.
    """
    image = np.asarray(image)

    def paint(figure: Figure) -> None:
        all_axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
        for axes in all_axes:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.spines[:].set_visible(False)
        _show(all_axes[0], image, 2.2)
        all_axes[0].set(title="image", xlabel=f"{image.shape[1]} × {image.shape[0]} px")
        for axes, (name, values) in zip(all_axes[1:], maps.items(), strict=True):
            values = np.asarray(values, dtype=np.float64)
            finite = values[np.isfinite(values)]
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
            # A constant map has no range; an arbitrary one avoids a division by zero.
            _show(axes, values, 2.2, cmap="gray", vmin=low, vmax=high if high > low else low + 1)
            axes.set(title=name, xlabel=f"{low:.3g} (black) to {high:.3g} (white)")
        if title:
            figure.suptitle(title)

    return draw(path, (2.4 * (1 + len(maps)), 3.0 if title else 2.8), paint)
