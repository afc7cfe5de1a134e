"""Verifiers: adapters of `llmhost.cache.verifier`."""
