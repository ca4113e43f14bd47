"""Sweeps: many settings on shared activations, each trained and scored, row by row into a file."""
