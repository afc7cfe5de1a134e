"""What a fleet would have cost and how long people would have waited, had it met a recorded day of questions."""
