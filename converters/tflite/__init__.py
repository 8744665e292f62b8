"""Passes over .tflite graphs."""
