"""Videos and cameras: read frames, score them over time, display and save the result."""
