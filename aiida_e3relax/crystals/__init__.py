"""Crystals as arrays and in files: what the network's side and the AiiDA side share. Needs neither torch nor aiida."""
