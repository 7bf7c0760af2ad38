"""Writing text with a language model: greedy, sampled by keyed draws, or by beam search, in batches with a cache."""
