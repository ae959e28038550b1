"""Predictions: of crystals in memory, of files, and the report on them."""
