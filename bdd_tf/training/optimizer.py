"""AdamW with one fused pass over each variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bdd_tf.legacy_keras import tf


class AdamW(tf.keras.optimizers.legacy.Adam):
    """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2).

    TensorFlow's fused ``ResourceApplyAdam`` computes the update; Keras' own AdamW makes about twenty elementwise passes over
    each variable. :mod:`bdd_tf.training.step` exempts batch normalisation, biases, slopes, the gates' mixing weights and the
    latent weights of binary layers from decay: the magnitude of a latent weight only determines how easily its sign flips.

    Args:
        learning_rate: Number, or a function without arguments that returns one.
        weight_decay: Decay per unit of learning rate.
        decay_filter: ``decay_filter(variable name)`` returns whether the variable decays; None: all do.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[], Any] = 1e-3,
        weight_decay: float = 0.0,
        decay_filter: Callable[[str], bool] | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name="AdamW", **kwargs)
        self.weight_decay = weight_decay
        self.decay_filter = decay_filter or (lambda name: True)

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: dict | None = None
    ) -> Any:
        if self.weight_decay and self.decay_filter(var.name):
            rate = (apply_state or {}).get((var.device, var.dtype.base_dtype), {}).get("lr_t")
            rate = self._decayed_lr(var.dtype.base_dtype) if rate is None else rate
            with tf.control_dependencies([var.assign_sub(rate * self.weight_decay * var)]):
                return super()._resource_apply_dense(grad, var, apply_state)
        return super()._resource_apply_dense(grad, var, apply_state)
