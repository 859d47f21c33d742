"""Timing exported artifacts on devices."""

from workers.profiling.onnxruntime import OnnxRuntimeProfiler

__all__ = ["OnnxRuntimeProfiler"]
