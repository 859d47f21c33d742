"""Strategies against each other on tabular spaces: `nas benchmark`."""
