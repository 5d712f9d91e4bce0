"""The stages, each saved and each reused: simulations, fits, predictions, scores."""
