"""Using a model: requests, windows, the sampling loop, the pipeline."""
