"""The command line; `main` is the entry point, and nothing is imported before it runs."""

from uoro.cli.entry import main as main
