"""Evaluation of trained runs: metrics and robustness."""
