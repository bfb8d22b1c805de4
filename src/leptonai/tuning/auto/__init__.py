"""A model without code: kinds of models are tried on a dataset within a budget of time, and the best is kept."""
