"""`cvji informer`: the wiring, and the one loop that decides."""
