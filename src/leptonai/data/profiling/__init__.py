"""Profiles: what is in the rows, counted while they pass by, and what is told from a sample of them."""
