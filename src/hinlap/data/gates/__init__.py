"""The gates a data set passes before it teaches: one file each, from rows to findings."""
