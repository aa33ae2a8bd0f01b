"""Ways to bring a model to an app. One signature; a fifth is one file and a line in the table."""
