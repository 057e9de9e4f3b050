"""Text to tokens to shards to batches: the only tokenisation there is."""
