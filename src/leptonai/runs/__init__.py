"""The run engine that every stage uses."""
