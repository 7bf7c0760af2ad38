"""Networks of rows that are arrays: auto-encoders and what is built of them."""
