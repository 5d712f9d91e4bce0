"""Diagnostics of trained surrogates: tests that need simulations, but no likelihood."""
