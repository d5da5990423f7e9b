"""Train, export and run face verification on the edge."""

from edgeface.telemetry import switch_off

__version__ = "0.1.0"

switch_off()
