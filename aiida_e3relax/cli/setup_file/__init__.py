"""`aiida-e3relax setup --config`: computers, codes, potentials and models from a file, and a live test of them."""
