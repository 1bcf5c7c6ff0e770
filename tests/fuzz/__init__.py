"""Inputs that nobody would send, for everything that reads any."""
