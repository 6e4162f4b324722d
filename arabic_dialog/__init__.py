"""Make, train and judge Arabic multi-turn dialogue models."""

__version__ = "0.1.0"
