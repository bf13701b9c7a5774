"""What `just deploy` puts into a cluster: the manifests, the script, the roles."""
