"""Train, export and run face verification on the edge."""

__version__ = "0.1.0"
