"""``hinlap schema``"""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of app.yaml (for editors: docs/app-yaml.md says how)."""
    from hinlap.app.declaration import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
