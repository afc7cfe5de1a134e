"""What a fleet would have cost, and how long people would have waited, on recorded questions."""
