"""Inside a trained network: the systems A u = f that it solves, and how its steps solve them."""
