"""Taking people in, with a coach before the camera."""
