"""What `just deploy`, `delete`, `status`, `logs`, `restart`, `describe` and `manifests` do, with helm and kubectl.

Settings are environment variables or NAME=VALUE arguments and become values of the chart, whose schema checks them. The
token comes from the environment or a file and leaves through kubectl's standard input alone. Nothing is changed before
everything was checked. Needs Python 3.9 and nothing beside its library.
"""
