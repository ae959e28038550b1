"""The protocols, and how one is read."""
