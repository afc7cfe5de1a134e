"""Small changes to real questions: some change what is asked, some do not."""
