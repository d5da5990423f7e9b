"""Face detectors and their formats."""
