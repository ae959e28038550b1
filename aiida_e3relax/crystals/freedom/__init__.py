"""What may move in a relaxation: for the prediction and for VASP alike."""
