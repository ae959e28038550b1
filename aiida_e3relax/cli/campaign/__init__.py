"""The command `aiida-e3relax campaign`."""
