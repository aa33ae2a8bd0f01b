"""Intervals, paired tests and corrections: pure, arrays in, numbers out, seeds passed in."""
