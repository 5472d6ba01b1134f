"""The rclone engine: append-only run folders and a sealed manifest per snapshot (docs/format.md)."""
