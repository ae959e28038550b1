"""What every side needs: errors, progress, figures, strict readers of YAML and JSON. Imports no other side."""
