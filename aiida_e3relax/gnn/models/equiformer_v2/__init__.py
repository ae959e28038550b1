"""EquiformerV2, in parts: edge frames, linear maps and norms, activations, attention, and the model."""
