"""Measure models side by side: contenders, their processes, results and output."""
