"""What encoders of several languages have in common between them."""
