"""The declaration of an app: its file, its templates, its examples, and the chain of steps."""
