"""Measures the service against yardsticks, in one run: `make bench`."""
