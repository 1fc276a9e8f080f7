"""A process that measures nothing, for a test."""


def measure(run_directory: str, *_: object) -> None:
    raise ValueError("no ruler")
