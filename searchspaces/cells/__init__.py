"""Cells: NAS-Bench-201's and DARTS' kinds, as a family of deployable networks."""
