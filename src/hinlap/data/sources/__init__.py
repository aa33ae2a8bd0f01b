"""One file per kind of place that articles come from."""
