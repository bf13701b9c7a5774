"""What jobs are, what they hold and when they start and end. Pure: no I/O, clock, thread or randomness."""
