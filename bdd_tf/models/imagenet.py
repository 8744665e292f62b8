"""Statistics of ImageNet by which RGB in [0, 1] is normalised, for Keras and PyTorch. No imports."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
