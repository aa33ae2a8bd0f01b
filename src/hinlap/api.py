"""The Python door: the same verbs as the command, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hinlap.app.app import App, StepFunction
from hinlap.app.chain import ItemResult
from hinlap.app.examples import make_examples
from hinlap.core.examples import Split
from hinlap.core.progress import Progress, Silent
from hinlap.workflows.answer import answer_inputs
from hinlap.workflows.compare import CompareOptions, compare_routes
from hinlap.workflows.comparison import Comparison
from hinlap.workflows.load import load


@dataclass(frozen=True)
class Application:
    """A loaded app. ``declared`` is its declaration with the examples."""

    declared: App

    def with_step(self, step: str, function: StepFunction) -> Application:
        """The same app with a Python callable in the place of a step.

        function: takes inputs and earlier outputs by name, returns the step's text.
        """
        return Application(self.declared.with_function(step, function))

    def run(
        self,
        inputs: Sequence[Mapping[str, str]],
        route: str,
        progress: Progress | None = None,
    ) -> list[ItemResult]:
        """Answers each row of inputs by a route, in order.

        Raises InputError for a row without an input, and what the route raises when it cannot
        be built; a row that fails alone has its status and error.
        """
        rows = [
            (f"inputs[{index}]", {name: str(value) for name, value in row.items()})
            for index, row in enumerate(inputs)
        ]
        examples = make_examples(
            rows,
            inputs=self.declared.spec.inputs,
            steps=[step.name for step in self.declared.spec.steps],
            split=Split.TEST,
        )
        return answer_inputs(self.declared, route, examples, progress or Silent()).items


def load_app(path: str | Path) -> Application:
    """The app in a folder with an ``app.yaml``, or the file. Raises HinlapError."""
    return Application(load(Path(path)))


def compare(
    app: Application | str | Path,
    options: CompareOptions | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Measures the app's routes on its test items and picks one; see docs/app-yaml.md.

    ``Comparison.as_json()`` is what ``hinlap compare --json`` writes. Raises HinlapError.
    """
    loaded = app if isinstance(app, Application) else load_app(app)
    return compare_routes(loaded.declared, options or CompareOptions(), progress or Silent())
