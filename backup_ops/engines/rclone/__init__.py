"""The rclone engine: append-only run folders and a sealed manifest per snapshot (docs/repository-layout.md)."""
