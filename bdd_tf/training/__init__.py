"""Training in Keras, with native kernels for BNext."""
