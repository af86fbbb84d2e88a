"""Measurements of speed and of power, run by hand."""
