"""The rounds in which the model of a campaign learns from the relaxations that have finished."""
