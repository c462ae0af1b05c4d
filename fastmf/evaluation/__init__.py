"""How good predictions and lists are, beside biases and popularity alone."""
