"""The results folder: entries, their forms, packs, simulations, and the identity of fits."""
