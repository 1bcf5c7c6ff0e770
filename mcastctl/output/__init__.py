"""From records to people and scripts."""
