"""``python -m asyncflow``: the command line."""

from asyncflow.cli import main

main()
