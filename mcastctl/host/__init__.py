"""What the host says about itself: interfaces and kernel knobs."""
