"""Predictors of metrics from genotypes, their features, and what they say about decisions."""
