"""Measurements: the schema, the files that hold samples, and the collectors that take them."""
