"""Defaults of a campaign. Imports nothing, so that the help of a command line can name them at once."""

BATCH_SIZE = 300
"""How many structures the network is given in one job."""
MAX_RUNNING = 10
"""How many chains run at the same time."""
NETWORK_JOBS = 1
"""How many batches are given to the network at the same time, each in a job of its own."""
NETWORK_RETRIES = 1
"""How often a batch is given to the network again where its run fails as a whole."""
REFERENCE_SHARE = 0.1
"""The share of the structures that VASP also relaxes without the network, to see what it saves."""
