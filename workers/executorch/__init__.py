"""ExecuTorch: programs with the integer weights and scales of ONNX files."""
