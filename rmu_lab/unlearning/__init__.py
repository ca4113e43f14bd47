"""Unlearning: target directions, losses, and the trainer that touches three matrices only."""
