"""Training a face detector."""
