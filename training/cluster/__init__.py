"""A run's own Ray, its group of workers and what can go wrong with them."""
