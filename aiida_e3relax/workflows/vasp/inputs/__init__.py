"""What the chain makes of its inputs for VASP."""
