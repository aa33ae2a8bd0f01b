"""Loading an app with every check that needs no model."""

from __future__ import annotations

from pathlib import Path

from hinlap.app.app import App, read_app
from hinlap.data.leaks import refuse_leaks, refuse_test_sets
from hinlap.workflows.measuring import check_metrics


def load(path: Path) -> App:
    """Reads an app and checks all that can be checked before anything runs.

    Raises AppError (file, line and field), LeakError when train and test share an example.
    """
    app = read_app(path)
    check_metrics(app)
    refuse_leaks(app.train, app.test)
    refuse_test_sets(app)
    return app
