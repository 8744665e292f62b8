"""Labelled images: sources, index, splits and batches. Importing this package does not import TensorFlow."""
