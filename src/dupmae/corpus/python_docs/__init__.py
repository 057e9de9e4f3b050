"""Documentation of the installed Python packages as a retrieval set."""
