"""Cleaning: steps that are declared, planned before a row is read, and applied to rows that pass by."""
