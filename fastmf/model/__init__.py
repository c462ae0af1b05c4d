"""The fitted model: its data, its queries and its file. It depends on no solver."""
