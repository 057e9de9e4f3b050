"""Text in: readers, the installed-packages corpus, tokenised shards. Builds no network."""
