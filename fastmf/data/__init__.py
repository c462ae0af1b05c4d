"""Input and output: ratings from files, frames and streams; ids; tables and files written whole or not at all."""
