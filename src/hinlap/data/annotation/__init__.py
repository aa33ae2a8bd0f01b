"""Examples written and corrected by hand: the log, the desk, the checks, the report."""
