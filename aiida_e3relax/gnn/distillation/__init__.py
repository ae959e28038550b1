"""A teacher potential relaxes starts, chunk by chunk, and its relaxations become pairs to train on."""
