"""Trained weights in files, and the facts without which they are of no use."""
