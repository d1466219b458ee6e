"""The keys by section; a file holds its KEYS and `check`, their checks against each other."""
