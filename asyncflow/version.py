"""The version of asyncflow."""

VERSION = "0.1.0"
