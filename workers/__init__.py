"""Where work is done: training, quantizing, exporting, profiling, and the executors that run it."""
