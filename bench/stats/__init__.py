"""Errors, ranks and tests."""
