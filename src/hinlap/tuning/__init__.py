"""Making a model of one's own: the training loop, its checkpoints, what comes out."""
