"""Judging networks before anything runs them, without onnx."""
