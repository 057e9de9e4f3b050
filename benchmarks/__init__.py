"""Each module compares a fast path with its slow reference or a peer in the same run and prints the ratio."""
