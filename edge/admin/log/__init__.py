"""The access log: formats, renderers, targets, and the reader of `styx log`."""
