"""What a campaign found, from the provenance graph to figures."""
