"""Unlearning: target directions, losses, the trainer that touches three matrices only, sweeps of it, and advice."""
