"""Validation campaigns: many chains, what they found, and how sure that is."""
