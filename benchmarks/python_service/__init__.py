"""A trivial service in plain Python, beside BentoML and LitServe: what is measured is what stands around the user's code."""
