"""The registry of methods that explain a score; each is imported only when it is requested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bdd_tf.edge.targets import load_target
from bdd_tf.errors import one_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bdd_tf.edge.detector import Detector
    from bdd_tf.edge.explain.explanation import Explainer

_EXPLAINERS = {
    "occlusion": "bdd_tf.edge.explain.occlusion:Occlusion",
    # A plugin outside the edge package, because it imports TensorFlow.
    "grad-cam": "bdd_tf.plugins.grad_cam:GradCam",
}


def explainer_names() -> tuple[str, ...]:
    """Return the registered names."""
    return tuple(_EXPLAINERS)


def create_explainer(
    name: str, detector: Detector, *, run: Path | None = None, reference: NDArray[np.uint8] | None = None
) -> Explainer:
    """Import an explainer and prepare it for a model.

    Args:
        name: One of `explainer_names`.
        detector: Detector whose scores are to be explained.
        run: Run folder of the model; Grad-CAM needs it.
        reference: uint8 [R, S, S, 3], images whose mean replaces an ablated channel; None for the replacement
            described in `bdd_tf.edge.explain.channels.ablate`.

    Raises:
        UsageError: If no explainer of that name is registered, or a requirement is missing.
        BddError: If the explainer is not installed, or cannot explain this model.
    """
    if name not in _EXPLAINERS:
        raise one_of("way to explain", name, explainer_names())
    factory: Callable[..., Explainer] = load_target(_EXPLAINERS[name], f"explaining by {name}")
    return factory(detector, run=run, reference=reference)
