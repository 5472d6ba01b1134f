"""`python -m backup_ops`: the same as the command `backup-ops`."""

from __future__ import annotations

import sys

from backup_ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
