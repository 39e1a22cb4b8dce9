"""Questions that take more than one protocol, or another kind of run."""
