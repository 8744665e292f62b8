"""Reference networks of open_clip, timm and torchvision, for `make test-references`."""
