"""Differentiable search: a relaxed network and a distribution over its candidates.

Imports torch and numpy only, so that it runs where there is no Ray and no database.
"""
