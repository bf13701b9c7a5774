"""The stage of the end-to-end tests."""

from tests.e2e.conftest import cloudvision, kubernetes, simulated

__all__ = ["cloudvision", "kubernetes", "simulated"]
