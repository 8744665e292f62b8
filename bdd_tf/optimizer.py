"""AdamW whose update is one fused pass over each variable."""

from __future__ import annotations

from bdd_tf.legacy_keras import tf


class AdamW(tf.keras.optimizers.legacy.Adam):
    """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2).

    TensorFlow's fused ``ResourceApplyAdam`` does the update; Keras' own AdamW takes about twenty elementwise
    passes a variable. Batch normalisation, biases, slopes, gates' mixing weights and the latent weights of
    binary layers, whose magnitude only sets how easily their sign flips, do not decay.

    Args:
        learning_rate: Number or schedule.
        weight_decay: Decay per unit of learning rate.
        decay_filter: ``decay_filter(variable name) -> bool``.
    """

    def __init__(self, learning_rate=1e-3, weight_decay: float = 0.0, decay_filter=None, **kwargs):  # noqa: ANN001
        super().__init__(learning_rate=learning_rate, name="AdamW", **kwargs)
        self.weight_decay = weight_decay
        self.decay_filter = decay_filter or (lambda name: True)

    def _resource_apply_dense(self, grad, var, apply_state=None):  # noqa: ANN001, ANN202
        if self.weight_decay and self.decay_filter(var.name):
            rate = (apply_state or {}).get((var.device, var.dtype.base_dtype), {}).get("lr_t")
            rate = self._decayed_lr(var.dtype.base_dtype) if rate is None else rate
            with tf.control_dependencies([var.assign_sub(rate * self.weight_decay * var)]):
                return super()._resource_apply_dense(grad, var, apply_state)
        return super()._resource_apply_dense(grad, var, apply_state)
