"""What is needed to install styx on a machine: default paths, `styx init`, `styx schema`."""
