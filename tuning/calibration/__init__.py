"""Comparison of the performance model with measured loads of real servers, and the fit of its constants."""
