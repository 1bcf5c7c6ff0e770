"""Frames off the wire and out of files."""
