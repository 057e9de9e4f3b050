"""The hybrid index and the search over it."""
