"""How many CPU threads can be asked for. Needs no torch."""

MOST_THREADS = 4096
"""More than any machine has; of many times more torch ends the process without a word."""
