"""Campaigns: many structures through the chain, what the network saved, and how sure that is."""
