"""What people see of a run: pictures, windows, recordings."""
