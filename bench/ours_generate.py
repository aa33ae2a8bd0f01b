"""Our side of the routes bench: answers 12 items by one route, and writes down what was asked."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from hinlap.app.app import sampling_for
from hinlap.core.progress import Silent
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool
from hinlap.routes.route import RouteContext
from hinlap.routes.table import build_route
from hinlap.store.store import Store
from hinlap.workflows.load import load

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "news-riddles"
PROMPTS = 12


def main(route_name: str, job: Path) -> None:
    app = load(EXAMPLE)
    step = app.spec.steps[0]
    with ExitStack() as cleanup:
        store = Store(Path(cleanup.enter_context(tempfile.TemporaryDirectory())) / "bench.db")
        cleanup.callback(store.close)
        pool = EnginePool(Silent())
        environment = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
        context = RouteContext(pool, store, Silent(), cleanup, environment)
        route = build_route(route_name, app, context)  # tunes, or reuses what was tuned
        local = route.engine
        if not isinstance(local, LocalEngine):  # the stand-in runs the embedded model
            local = pool.local("smollm2-135m-instruct")
        prompts = [route.make_prompt(step, dict(e.inputs)) for e in app.test[:PROMPTS]]
        list(local.generate(prompts[:1], sampling_for(step)))  # load and warm up
        began = time.perf_counter()
        answers = dict(route.engine.generate(prompts, sampling_for(step)))
        seconds = time.perf_counter() - began
        content = {
            "model": str(local.folder),
            "adapter": str(local.adapter_folder) if local.adapter_folder else None,
            "prompts": [local.render(prompt) for prompt in prompts],
            "max_new_tokens": step.max_tokens,
            "stop": list(step.stop),
        }
        job.write_text(json.dumps(content), encoding="utf-8")
    texts = [answers[i].text.strip() for i in range(len(prompts))]
    tokens = sum(answer.output_tokens for answer in answers.values())
    print(
        json.dumps({"seconds": seconds, "tokens": tokens, "texts": texts, "prompts": len(prompts)})
    )


if __name__ == "__main__":
    if shutil.which("git") is None:
        sys.exit("the bench needs git")
    main(sys.argv[1], Path(sys.argv[2]))
