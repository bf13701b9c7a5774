"""What is to be reported to CloudVision and what was, remembered as objects in the cluster."""
