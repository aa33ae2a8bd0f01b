"""One verb per file: what a door asks for."""
