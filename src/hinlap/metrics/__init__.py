"""Pure measures: texts and numbers in, per-item statistics out. No I/O, no model, no clock."""
