"""Public models by name: what they are, and how they get here."""
