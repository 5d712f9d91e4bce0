"""Studies: questions about the protocol itself, answered with exact likelihoods."""
