"""Measurements. Never part of the tests, never shipped: speed claims are ratios taken side by side in one run."""
