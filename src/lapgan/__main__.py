"""Runs the command line as `python -m lapgan`."""

from lapgan.cli import main

if __name__ == "__main__":
    main()
