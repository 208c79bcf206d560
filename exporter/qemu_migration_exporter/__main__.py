"""`python -m exporter` is the command `qemu-migration-exporter`."""

import sys

from qemu_migration_exporter.cli import main

sys.exit(main())
