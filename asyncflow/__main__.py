"""``python -m asyncflow`` runs the command line, as the script ``asyncflow`` does."""

from asyncflow.cli import main

main()
