"""The job `few-shot`: what a decoder knows without being trained for it, from examples in its prompt."""
