"""From facts to findings: why a datagram does not arrive, and the self-test."""
