"""Labelled images: where they lie, what is in them, and batches for training. No TensorFlow on import."""
