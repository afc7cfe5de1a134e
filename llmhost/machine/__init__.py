"""This machine: files, locks and processes that several parts of llmhost need."""
