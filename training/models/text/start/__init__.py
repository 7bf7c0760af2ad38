"""Networks that training starts from, in folders of `transformers`: what they say, and their weights."""
