"""How often the cache is right, measured with the very code that serves."""
