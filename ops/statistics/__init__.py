"""Statistics, once for all attacks: intervals, rank tests over subjects, limits, several tests at once, power."""
