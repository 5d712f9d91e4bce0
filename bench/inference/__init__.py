"""Likelihoods of datasets, lattices, profiles and intervals."""
