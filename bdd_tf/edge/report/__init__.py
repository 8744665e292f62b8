"""The report on one image, for people: one HTML file that needs nothing else."""
