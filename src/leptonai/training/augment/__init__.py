"""Augmentation: rows that are changed a little each time a model sees them, so that few rows teach as many would."""
