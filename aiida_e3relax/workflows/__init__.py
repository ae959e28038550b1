"""Work chains: the network's run with restarts, and the chain from a raw crystal to the comparison."""
