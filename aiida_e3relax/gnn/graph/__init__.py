"""Neighbour graphs, one file a kind (`shells.py`, `published.py`), their search for pairs, and batches of crystals."""
