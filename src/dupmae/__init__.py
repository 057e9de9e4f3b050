"""dupmae: from raw text to a measured hybrid retriever."""
