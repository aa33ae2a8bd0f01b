"""New tasks from a few: prompts, reading the answers, the published filters. Asks nobody itself."""
