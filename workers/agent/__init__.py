"""An agent: a small process on a device that times files for a server.

Needs ONNX Runtime, NumPy and httpx; neither torch, Ray nor a database.
"""
