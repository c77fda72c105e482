"""DEMO: `styx demo` and `styx core-api`, with a pocket platform, styx as a child process, and the --once script."""
