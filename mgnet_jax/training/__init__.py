"""How a state of training is made better, measured and kept."""
