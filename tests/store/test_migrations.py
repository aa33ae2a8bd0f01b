from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from hinlap.store.store import MIGRATIONS, Store
from hinlap.store.tables import Base


def test_the_migrations_make_the_tables_that_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "hinlap.db"
    Store(path).close()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        difference = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert difference == []


def test_a_store_made_by_migrations_has_the_columns_of_one_made_at_once(tmp_path: Path) -> None:
    Store(tmp_path / "migrated.db").close()
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    declared, migrated = (columns(tmp_path / name) for name in ("declared.db", "migrated.db"))
    assert migrated == declared


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hinlap.db"
    Store(path).close()
    before = columns(path)
    Store(path).close()
    assert columns(path) == before


def test_the_migrations_are_one_line_with_one_end() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    revisions = list(scripts.walk_revisions())
    assert len(scripts.get_heads()) == 1
    assert all(not script.is_merge_point for script in revisions)
    assert all(re.match(r"\d{4}_", Path(script.path).name) for script in revisions)


def columns(path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
    """(name, type, not null, primary key) of every table's columns."""
    connection = sqlite3.connect(path)
    tables = [
        name
        for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        if name != "alembic_version"
    ]
    found = {
        table: sorted(
            (name, kind, required, key)
            for _, name, kind, required, _, key in connection.execute(f"pragma table_info({table})")
        )
        for table in tables
    }
    connection.close()
    return found
