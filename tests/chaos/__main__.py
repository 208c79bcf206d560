"""Run chaos for some minutes: python -m tests.chaos SEED MINUTES. The status is 1 if an invariant was violated."""

from __future__ import annotations

import logging
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from tests.chaos.driver import Chaos
from tests.chaos.receiver import moody


def main(seed: int, minutes: float) -> int:
    """Run once and print the figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    with moody() as receiver:
        chaos = Chaos(directory, receiver, seed, minutes * 60)
        try:
            outcome = chaos.run()
        finally:
            chaos.close()
    for figure in fields(outcome):
        sys.stdout.write(f"{figure.name:18} {getattr(outcome, figure.name)}\n")
    sys.stdout.write(f"logs and state in {directory}\n")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, float(sys.argv[2]) if len(sys.argv) > 2 else 2))
