"""This machine: the doctor, servers, signals, environment."""
