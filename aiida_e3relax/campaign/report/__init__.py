"""The report of a campaign: a page that works from a file, without a network, and what it shows as files."""
