"""How large the errors of a model are, and how well it knows them."""
