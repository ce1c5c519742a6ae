"""The ``cadenza`` command: one file a command group; ``main.py`` puts them together."""
