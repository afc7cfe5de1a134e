"""The larger verifier of llmhost: files alone. llmhost finds them by this package's name."""
