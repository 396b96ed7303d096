"""`python -m kit`: the command line where the `kit` script is not on the path."""

from kit.cli.main import main

main()
