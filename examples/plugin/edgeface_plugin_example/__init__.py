"""Plug-ins for edgeface."""
