"""A trained network apart from its run: what it says of images, and its way to other programs."""
