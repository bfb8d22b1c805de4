"""Datasets: from files to encrypted, versioned shards."""
