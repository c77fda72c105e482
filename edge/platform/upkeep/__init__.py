"""What the platform does to containers by itself, all the time, when it is switched on."""
