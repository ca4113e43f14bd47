"""The paper's arguments as things to compute: predictions, simulations and measurements."""
