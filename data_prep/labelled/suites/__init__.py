"""Packaged suites: one YAML file each, of tasks whose files lie as they are downloaded."""
