"""What goes in and out: ratings from files, frames and streams; ids; and tables and files that are written whole."""
