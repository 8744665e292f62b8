"""Evidence beside the score: statements in a file's metadata, and other marks of its making (docs/evidence.md).

It is never mixed into the score. Absence proves nothing, and metadata without a signature can be forged or removed.
"""

from __future__ import annotations

from bdd_tf.edge.evidence.find import find_evidence
from bdd_tf.edge.evidence.item import BROKEN, HINT, NEUTRAL, UNVERIFIED, VERIFIED, Evidence

__all__ = ["BROKEN", "HINT", "NEUTRAL", "UNVERIFIED", "VERIFIED", "Evidence", "find_evidence"]
