"""Starts of relaxations as users make them, drawn at random from real crystals and prototypes, for a teacher."""
