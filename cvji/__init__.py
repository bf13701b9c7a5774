"""Reports to Arista CloudVision which NICs or nodes every Kubernetes job holds, and which NICs every node has."""

__version__ = "0.1.0"
