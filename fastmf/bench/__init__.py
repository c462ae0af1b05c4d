"""How fast this machine trains, compared with plain NumPy and with the machine's own limits."""
