"""Parts of the metrics: what processes use, and numbers of listeners and sites that the settings name."""
