"""Train detectors with PyTorch on a GPU; `bdd convert --from-torch` imports the weights into Keras."""
