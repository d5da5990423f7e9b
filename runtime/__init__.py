"""Bundle and camera in, decisions out. Never imports torch or onnx."""
