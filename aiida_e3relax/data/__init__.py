"""Data nodes of the plugin, and the way between `StructureData` nodes and flat arrays."""
