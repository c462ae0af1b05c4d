"""MovieLens sets by name, and synthetic twins of them whose true model is known."""
