"""Where networks run: the providers of onnxruntime, the truth about them, and their caches."""
