"""Defaults of a campaign. Imports nothing, so that the help of a command line can name them at once."""

BATCH_SIZE = 300
"""How many structures the network is given in one job."""
MAX_RUNNING = 10
"""How many chains run at the same time."""
NETWORK_RETRIES = 1
"""How often a batch is given to the network again where its run fails as a whole."""
