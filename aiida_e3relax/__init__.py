"""Start VASP relaxations from crystals that equivariant networks predict, and measure what that saves."""
