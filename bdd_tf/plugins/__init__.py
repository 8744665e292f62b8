"""Engines and explainers that need TensorFlow. `bdd_tf.edge` loads them by name on request."""
