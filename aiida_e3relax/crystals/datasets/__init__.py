"""Files of training pairs."""
