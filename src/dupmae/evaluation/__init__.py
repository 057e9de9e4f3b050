"""Metrics, significance, run files, the retrieval evaluation and its report."""
