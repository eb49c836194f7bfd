"""The pipeline file: TOML to a plan."""
