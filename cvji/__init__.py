"""Tells Arista CloudVision which NICs or nodes every Kubernetes job holds, and what NICs every node has."""

__version__ = "0.1.0"
