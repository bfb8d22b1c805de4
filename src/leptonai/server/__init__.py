"""The server: records, queue, keys, and the one door to them."""
