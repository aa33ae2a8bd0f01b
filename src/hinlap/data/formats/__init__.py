"""One file per format of training rows: whether a record is one, record to row, row to record."""
