"""The fitted model: what it holds, what can be asked of it, and its file. It knows no solver."""
