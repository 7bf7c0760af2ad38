"""The stages of a pretraining flow: plain functions from a config and finished artifacts to files and a summary."""
