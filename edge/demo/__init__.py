"""DEMO: `styx demo` and `styx core-api`: a pocket platform, styx as a child process, and the script of --once."""
