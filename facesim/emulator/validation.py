"""A request checked as AWS does: by the same description that a dry run is checked by."""

from facesim.aws.validation import problems

__all__ = ["problems"]
