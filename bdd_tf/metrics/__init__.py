"""Classification metrics, calibration and score files."""
