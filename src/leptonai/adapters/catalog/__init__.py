"""Adapters of the catalog port."""
