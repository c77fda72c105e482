"""Messages between the processes of one edge: the channels of the master, the control channel, and their checks."""
