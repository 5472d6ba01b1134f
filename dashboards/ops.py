"""The dashboard under Panel's own server, at /ops:

    panel serve dashboards/ops.py

The home is $BACKUP_OPS_HOME, else the default one. The one-time link that lets a browser run and cancel jobs is printed
in this terminal: when the server starts, or, where backup-ops is not installed as a package, with the first page.
"""

from backup_ops.dashboard import show

show()
