"""Tests of cvji, and the simulators they run against."""
