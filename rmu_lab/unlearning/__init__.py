"""Unlearning: the methods and their table, losses, directions, trainers, results, and advice on settings."""
