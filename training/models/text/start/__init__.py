"""Networks that training starts from, in folders of `transformers`: their settings and weights."""
