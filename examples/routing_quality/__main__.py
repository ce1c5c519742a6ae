"""`python -m examples.routing_quality [--shuffled SEED]`: print the tables of docs/routing-quality.md."""

import sys

from benchmarks.routing_quality import main

if __name__ == "__main__":
    sys.argv.append("--print")
    sys.exit(main())
