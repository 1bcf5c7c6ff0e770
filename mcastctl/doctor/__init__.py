"""From facts to findings: the self-test."""
