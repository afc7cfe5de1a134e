"""llmhost: your own LLM on rented GPUs, behind a semantic cache that can be trusted."""

__version__ = "0.1.0"
