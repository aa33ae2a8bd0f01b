"""Prompt templates: Jinja2 in its sandbox, with every name checked before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

import jinja2
import jinja2.exceptions
import jinja2.meta
import jinja2.sandbox


class TemplateProblem(ValueError):
    """A template that cannot be used; the caller adds file, line and field."""


@lru_cache(maxsize=1)
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    # autoescape off: the text goes to a model, not to a browser
    return jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=False, autoescape=False
    )


def check_template(source: str, known: Collection[str]) -> None:
    """Raises TemplateProblem when ``source`` does not parse or names a field not in ``known``."""
    try:
        tree = _environment().parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateProblem(
            f"the template does not parse: {error.message} (line {error.lineno} of the template)"
        ) from error
    unknown = sorted(jinja2.meta.find_undeclared_variables(tree) - set(known))
    if unknown:
        raise TemplateProblem(
            f"the template names {', '.join(map(repr, unknown))}, "
            f"but this step can only see {', '.join(sorted(known)) or 'nothing'}"
        )


@lru_cache(maxsize=256)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def render_template(source: str, fields: Mapping[str, object]) -> str:
    """The filled template, outer blank space removed.

    Raises TemplateProblem when it fails while running (a forbidden attribute, a bad filter).
    """
    try:
        return _compiled(source).render(**fields).strip()
    except (jinja2.TemplateError, jinja2.exceptions.SecurityError, TypeError, ValueError) as error:
        raise TemplateProblem(f"the template failed: {error}") from error
