"""Runs the command line as `python -m lapgan`."""

from lapgan.cli import main

main()
