"""Training: from a dataset version and a model to weights, and from weights to a published file."""
