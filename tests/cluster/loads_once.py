"""A module that leaves word of every process that loads it."""

import os

with open(os.environ["LOADS"], "a", encoding="utf-8") as file:
    file.write(f"{os.getpid()}\n")
