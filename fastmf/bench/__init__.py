"""The benchmark: how fast this machine trains, against plain NumPy and the machine's own limits."""
