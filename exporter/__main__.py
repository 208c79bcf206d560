"""`python -m exporter` is the command `qemu-migration-exporter`."""

import sys

from exporter.cli import main

sys.exit(main())
