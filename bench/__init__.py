"""nlbench: which neural likelihood surrogate should a scientist trust?"""

__version__ = "0.1.0"
