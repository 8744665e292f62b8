"""Interpolate the position embedding of a transformer for another resolution."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from bdd_tf.errors import BddError


def interpolated_positions(embedding: np.ndarray, tokens: int) -> np.ndarray:
    """Interpolate a position embedding bicubically to another grid (arXiv 2010.11929, section 3.2).

    Args:
        embedding: float32 [1 + G * G, C]: the first token's (class token or mean), then those of a square grid, row by row.
        tokens: 1 + H * H, the number of tokens of the other grid.

    Returns:
        float32 [tokens, C]. The first row is unchanged.

    Raises:
        BddError: If one of the grids is not square.
    """
    old, new = math.isqrt(len(embedding) - 1), math.isqrt(tokens - 1)
    if (old * old, new * new) != (len(embedding) - 1, tokens - 1) or not old:
        raise BddError(
            f"a position embedding of {len(embedding)} tokens cannot be interpolated to {tokens}: both need a first token "
            "and a square grid."
        )
    # Resizing the identity gives the weights of one axis; Pillow's filter is smoothed when the grid shrinks.
    axis = np.asarray(
        Image.fromarray(np.eye(old, dtype=np.float32)).resize((old, new), Image.Resampling.BICUBIC)
    )
    grid = embedding[1:].reshape(old, old, -1)
    resized = np.einsum("ai,bj,ijc->abc", axis, axis, grid).reshape(new * new, -1)
    return np.concatenate([embedding[:1], resized]).astype(np.float32)
