"""The papers' benchmarks, each by one command: `dupmae evaluate RETRIEVER --suite NAME --data DIR`."""
