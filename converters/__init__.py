"""Converters between model formats. Each one verifies its result. Available in a source checkout only."""
