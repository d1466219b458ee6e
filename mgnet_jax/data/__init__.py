"""Data: where images come from, how they are changed, and how they reach the devices."""
