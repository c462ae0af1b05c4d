"""Run the command line as ``python -m fastmf``."""

from fastmf.cli import main

if __name__ == "__main__":
    main()
