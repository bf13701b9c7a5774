"""Node states become NodeConfigs. Pure: no I/O, clock, thread or randomness."""
