"""Labels: which are wrong, which a model can set, and which rows a person should label next."""
