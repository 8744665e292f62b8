"""Images from file to network input: find, decode, resize, crop, check against the training statistics."""
