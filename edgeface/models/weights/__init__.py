"""Weights that somebody saved with torch or safetensors: read without running code, and brought into our networks."""
