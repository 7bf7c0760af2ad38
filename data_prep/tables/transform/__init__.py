"""What is fitted on the training rows of a table, and turns values into numbers and back."""
