"""Which build this is. build/executable.sh overwrites this module; from source both are empty."""

COMMIT = ""
DATE = ""
