"""Checkpoint or foreign ONNX in, verified bundle out."""
