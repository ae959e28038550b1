"""VASP with the network against VASP without it."""
