"""Static DFT validation: energies of unrelaxed, predicted and relaxed crystals, each by one run of VASP."""
