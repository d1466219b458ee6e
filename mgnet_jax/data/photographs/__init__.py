"""Photographs: files of any size, read one at a time; made images, and made prepared sets."""
