"""Data sets with their true causal models, and the readers of the files that they come in."""
