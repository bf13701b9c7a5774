"""Long random histories, in simulated time and against the real program."""
