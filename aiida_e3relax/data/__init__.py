"""Data nodes of the plugin, and `StructureData` nodes to flat arrays and back."""
