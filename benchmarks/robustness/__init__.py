"""The same attacks on every product: what each answers, and whether it is there afterwards."""
