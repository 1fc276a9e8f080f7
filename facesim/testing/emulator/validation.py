"""A request checked as AWS does: by the same description that a dry run is checked by."""

from facesim.backends.sagemaker.validation import problems

__all__ = ["problems"]
