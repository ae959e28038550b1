"""Tables of the papers: variants of models trained on the same data with several seeds, measured and compared."""
