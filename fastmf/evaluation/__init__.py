"""How good predictions and lists are, compared with biases alone and with popularity."""
