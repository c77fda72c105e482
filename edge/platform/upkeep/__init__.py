"""The automatic actions of the platform on its containers, while they are switched on."""
