"""Retrievers for other tools: sentence-transformers, ONNX, the Hugging Face hub, mteb."""
