"""Backbones, and the detector: channels, adapter, backbone and classifier."""
