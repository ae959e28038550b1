"""Readers of data sources, one file a kind; `registry.py` lists them."""
