"""Networks, objectives and the one loop that trains them."""
