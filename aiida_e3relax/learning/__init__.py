"""Learning from the graph: relaxations that VASP has paid for become pairs that networks are trained on."""
