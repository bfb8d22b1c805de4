"""Models of text: what may be asked of them, and the process that computes them."""
