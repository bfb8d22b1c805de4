"""Which models are tried on a dataset where nobody named one, and how each of them is cross-validated."""
