"""jobs.yaml: read with all its problems at once, described by a JSON Schema, begun by a template.

>>> from backup_ops import jobfile
>>> jobfile.parse(b"version: 1").jobs
{}
"""

from backup_ops.jobfile.file import VERSION, JobFile, load, parse
from backup_ops.jobfile.schema import json_schema
from backup_ops.jobfile.template import template

__all__ = ["VERSION", "JobFile", "json_schema", "load", "parse", "template"]
