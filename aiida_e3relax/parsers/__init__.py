"""Parsers: retrieved files to nodes, thin over pure functions."""
