"""Verifiers: adapters of `llmhost.cache.contracts`."""
