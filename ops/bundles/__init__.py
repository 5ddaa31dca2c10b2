"""What leaves the private zone: rebuilt from arrays, listed file by file, described, signed, and checked by anyone."""
