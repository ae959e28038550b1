"""The run of the network as a work chain, and what its report says."""
