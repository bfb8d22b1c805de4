"""Parts of the benchmark `evaluation`."""
