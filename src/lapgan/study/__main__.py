"""`python -m lapgan.study`: the study's commands alone."""

import sys

from lapgan.errors import LapganError
from lapgan.study.commands import study_app

if __name__ == "__main__":
    try:
        study_app(prog_name="lapgan study")
    except LapganError as error:
        sys.exit(f"error: {error}")
