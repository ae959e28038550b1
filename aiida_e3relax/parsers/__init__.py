"""The parser of the network's job, and the functions without AiiDA that read its files."""
