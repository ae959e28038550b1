"""The chain of the network and VASP."""
