"""Everything that talks to the Kubernetes API, and the structs its objects are read into."""
