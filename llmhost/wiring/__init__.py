"""Builds the concrete parts for one command. The only package that knows them all."""

from llmhost.wiring.parts import Wiring

__all__ = ["Wiring"]
