"""What a transport of the loop lacks: bounded reads, a budget of time, the state of the socket."""
