"""A retriever: encoder, encoding, saved folder and what other libraries need to open it."""
