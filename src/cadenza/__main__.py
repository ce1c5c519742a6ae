"""``python -m cadenza`` is the ``cadenza`` command."""

from cadenza.cli.main import main

main()
