"""Explain scores: evidence maps by occlusion, ablation of forensic channels, heat-map images."""
