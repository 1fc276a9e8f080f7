from tests.data.conftest import photo

__all__ = ["photo"]
