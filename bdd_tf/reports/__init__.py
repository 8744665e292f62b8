"""Reports from run folders and stored results, without TensorFlow."""
