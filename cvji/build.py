"""Which build this is. build/executable.sh writes this module anew; what stands here is what a run from source says."""

COMMIT = ""
DATE = ""
