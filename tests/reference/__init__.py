"""Slow, obvious versions of what the package does fast, written from the equations alone."""
