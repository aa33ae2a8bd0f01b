"""Where data comes from, and the gates it passes before anything learns from it."""
