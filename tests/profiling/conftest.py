"""The forecast's profile, which needs no measuring."""

from tests.forecast.conftest import profile

__all__ = ["profile"]
