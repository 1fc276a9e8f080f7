"""Runs jobs one after another, and turns the end of each into its result."""
