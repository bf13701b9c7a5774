"""What a node's kernel says about its NICs."""
