"""Everything that talks to CloudVision."""
