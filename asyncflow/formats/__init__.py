"""Formats: bytes to columns and back.  One file each, found by name; ``contract`` is the contract."""

from __future__ import annotations

from types import ModuleType

from asyncflow.model import components


def decoder_names() -> tuple[str, ...]:
    return components.names(__name__, "decoder", "asyncflow.formats")


def encoder_names() -> tuple[str, ...]:
    return components.names(__name__, "encoder", "asyncflow.formats")


def find_decoder(name: str) -> ModuleType:
    """The format module that can make a ``decoder``; KeyError when there is none."""
    return components.find(__name__, name, "decoder", "asyncflow.formats")


def find_encoder(name: str) -> ModuleType:
    """The format module that can make an ``encoder``; KeyError when there is none."""
    return components.find(__name__, name, "encoder", "asyncflow.formats")
