"""The training loss: cross-entropy with label smoothing, class weights and distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

#: Temperature of the distillation (Hinton et al., arXiv 1503.02531).
DISTILLATION_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Loss:
    """Binary cross-entropy of FAKE logits, mixed with a distillation loss if there is a teacher.

    Attributes:
        fake_weight: Weight of FAKE images; REAL images have weight 1.
        label_smoothing: Share of the uniform distribution in the targets, in [0, 1].
        distillation_weight: Share of the distillation loss, in [0, 1].
    """

    fake_weight: float = 1.0
    label_smoothing: float = 0.0
    distillation_weight: float = 0.5

    def __call__(
        self, logit: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the mean loss of a batch.

        Args:
            logit: Logits of FAKE, float32 [B].
            labels: float32 [B], 1 for FAKE.
            teacher: The teacher's logits of FAKE, float32 [B], or None.
        """
        targets = labels * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        factor = torch.full_like(logit[:1], self.fake_weight)
        loss = F.binary_cross_entropy_with_logits(logit, targets, pos_weight=factor)
        if teacher is None:
            return loss
        temperature = DISTILLATION_TEMPERATURE
        distillation = F.binary_cross_entropy_with_logits(
            logit / temperature, torch.sigmoid(teacher / temperature)
        )
        # The square of the temperature restores the scale of the gradient (section 2 of the paper).
        return (
            1 - self.distillation_weight
        ) * loss + self.distillation_weight * temperature**2 * distillation
