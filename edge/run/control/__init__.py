"""The control channel: messages between the processes of one edge, and who may send them."""
