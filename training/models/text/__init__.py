"""Networks of text: the table of architectures of `transformers`, and the heads that objectives put on them."""
