"""Parse, cut and annotate .tflite files without TensorFlow."""
