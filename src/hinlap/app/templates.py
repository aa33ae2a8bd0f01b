"""Prompt templates: Jinja2 in its sandbox, with every name checked before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox


class TemplateProblem(ValueError):
    """A template that cannot be used; the caller adds file, line and field."""


@lru_cache(maxsize=1)
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    # autoescape off: the text goes to a model, not to a browser
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=False, autoescape=False
    )
    # the same fields must give the same prompt
    del environment.filters["random"], environment.globals["lipsum"]
    return environment


def check_template(source: str, known: Collection[str]) -> None:
    """Raises TemplateProblem when ``source`` does not parse, names a field not in ``known``, or
    reaches for what the sandbox forbids (private attributes, other files)."""
    try:
        tree = _environment().parse(source)
        _compiled(source)  # unknown filters and tests show here
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
    _refuse_escapes(tree)


def _refuse_escapes(tree: jinja2.nodes.Template) -> None:
    """What can be seen without running; the sandbox holds the rest while it runs."""
    nodes = jinja2.nodes
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        name = node.attr if isinstance(node, nodes.Getattr) else None
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            name = node.arg.value
        if isinstance(name, str) and name.startswith("_"):
            raise TemplateProblem(
                f"the template reaches for {name!r}; names that start with '_' are closed to it"
            )
    loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    if any(True for _ in tree.find_all(loading)):
        raise TemplateProblem("the template loads another file, which a prompt cannot")


@lru_cache(maxsize=256)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def render_template(source: str, fields: Mapping[str, object]) -> str:
    """The filled template, outer blank space removed.

    Raises TemplateProblem when it fails while running (a forbidden attribute, a bad filter).
    """
    try:
        return _compiled(source).render(**fields).strip()
    except Exception as error:  # a template may divide by zero, recurse, overflow ...
        raise TemplateProblem(f"the template failed: {error}") from error
