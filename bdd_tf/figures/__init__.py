"""Figures of data, training and evaluation."""
