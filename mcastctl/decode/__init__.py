"""Bytes to meaning: headers of the streams people send."""
