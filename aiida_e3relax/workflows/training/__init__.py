"""Work chains that train networks."""
