"""Neighbour graphs of crystals, and batches of crystals as tensors."""
