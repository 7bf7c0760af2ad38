"""The job `adaptation`: what a network knew, and what it knows after it went on with other texts."""
