"""Which words of wrong answers push towards them."""
