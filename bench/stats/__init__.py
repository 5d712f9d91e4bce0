"""Statistical errors, ranks and tests."""
