"""`python -m edge` is the `styx` command."""

from edge.run.cli import main

main()
