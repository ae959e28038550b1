"""The fast engine: the same weights and equations as the plain layers, with less memory traffic."""
