"""MovieLens sets by name, and their synthetic twins, drawn from known models."""
