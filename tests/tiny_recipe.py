"""A recipe that trains in a second: two levels, of which one is not square."""

from typing import Any

TINY: dict[str, Any] = {
    "name": "tiny",
    "training": {"batch": 8, "images": 64, "ema_half_life": 64},
    "levels": {
        "12": {
            "noise": {"kind": "plane"},
            "generator": {"kind": "paper-conv", "maps": 4},
            "discriminator": {"kind": "paper-conv", "maps": 4},
        },
        "6x8": {
            "noise": {"kind": "vector", "dimension": 5},
            "generator": {"kind": "paper-dense", "units": 16},
            "discriminator": {"kind": "paper-dense", "units": 8},
        },
    },
}
