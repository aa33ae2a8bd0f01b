"""Published benchmarks: one a file, with its definition, source, licence and peer."""
