"""Stages of a run, whose results are saved and reused: simulations, fits, predictions, scores."""
