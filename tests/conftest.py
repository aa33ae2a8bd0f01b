"""What many tests share: a tiny model with random weights, a chat server, a small app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hinlap.engines.embedded import FOLDER
from hinlap.engines.places import cache_folder

TEXTS = [
    "The harbour town counted its boats on Monday and found one more than last year.",
    "A baker in the valley sold nine hundred loaves before the rain began.",
    "Scientists on the coast followed forty seals with small radio tags.",
    "The school library lends umbrellas, and most of them come back.",
    "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า และรถทุกคันหยุดรอ",
    "Engineers closed the old bridge for two weeks to paint its towers.",
    "A small museum of clocks asks its visitors to guess the time.",
    "The choir sang in the tunnel, where the echo lasts eleven seconds.",
]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random weights, its tokenizer and a chat template."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "llama", "llama", chat=True)


def make_tiny_model(
    folder: Path, architecture: str, *, chat: bool, more: Mapping[str, Any] | None = None
) -> Path:
    """Writes a model folder as transformers' save_pretrained does; seeded, about 100k weights.

    more: fields of its configuration that the architecture needs or names differently.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if architecture == "llama":
        shape["num_key_value_heads"] = 2
    shape |= more or {}
    config = AutoConfig.for_model(architecture, **shape)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # spread, so that greedy answers are not one token for ever
        for parameter in model.parameters():
            parameter.mul_(3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's folder; the test is skipped where it was never fetched."""
    folder = cache_folder() / "models" / FOLDER
    if not (folder / "config.json").is_file():
        pytest.skip(
            "the embedded model is not in the cache: hinlap models pull smollm2-135m-instruct"
        )
    return folder


@contextmanager
def serving(
    answer: Callable[[BaseHTTPRequestHandler], None], protocol: str = "HTTP/1.0"
) -> Iterator[str]:
    """A real HTTP server on loopback; gives its address. ``answer`` writes the reply to each
    request; under HTTP/1.1 connections stay open, and a reply must say its length."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = protocol

        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

        def log_message(self, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may go away
                super().handle_error(request, client_address)

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def reply(
    request: BaseHTTPRequestHandler, body: bytes = b"", status: int = 200, **headers: str
) -> None:
    """Writes one reply; an underscore in a header's name stands for a hyphen."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def serving_pages(
    pages: Mapping[str, tuple[int, str, str | bytes]],
) -> AbstractContextManager[str]:
    """A server of pages by path: (status, content type, body)."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        status, kind, body = pages[request.path.partition("?")[0]]
        data = body if isinstance(body, bytes) else body.encode()
        reply(request, data, status, Content_Type=kind)

    return serving(answer)


@dataclass
class ChatServer:
    """A real HTTP server on loopback with the chat completions API.

    answer: from the request's body to (status, headers, body); bodies seen are kept in order.
    """

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]] = lambda body: ok(
        "An answer."
    )


def ok(
    text: str, *, finish: str = "stop", prompt_tokens: int = 10, completion_tokens: int = 5
) -> tuple[int, dict[str, str], Any]:
    """A good chat completion as (status, headers, body)."""
    return (
        200,
        {},
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "test-model",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish,
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        },
    )


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """Starts a ChatServer; set ``.answer`` to script it."""
    state = ChatServer()
    lock = threading.Lock()

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with lock:
            state.seen.append(body)
            state.keys.append(request.headers.get("Authorization", ""))
        status, headers, said = state.answer(body)
        raw = said if isinstance(said, bytes) else json.dumps(said).encode()
        reply(request, raw, status, **{"Content-Type": "application/json", **headers})

    with serving(answer, protocol="HTTP/1.1") as url:
        state.url = f"{url}/v1"
        yield state


@pytest.fixture
def small_app(tmp_path: Path, chat_server: ChatServer) -> Path:
    """A folder with an app of two steps, 4 train and 6 test items, and one service route to
    ``chat_server`` (key in TEST_KEY)."""
    folder = tmp_path / "app"
    (folder / "data").mkdir(parents=True)
    rows = [
        {
            "id": f"row-{i}",
            "title": f"Headline {i}",
            "text": text,
            "summary": text[:40],
            "riddle": f"I am number {i} of many and I was in the news today. What am I?",
            "answer": f"thing{i}",
        }
        for i, text in enumerate([*TEXTS, "A ferry turned back in fog.", "Rice was planted late."])
    ]
    for name, part in (("train", rows[:4]), ("test", rows[4:])):
        (folder / "data" / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8"
        )
    (folder / "app.yaml").write_text(APP_YAML.format(url=chat_server.url), encoding="utf-8")
    return folder


APP_YAML = """\
name: small
inputs: [text]
steps:
  - name: summary
    prompt: "Summarise: {{{{ text }}}}"
    max_tokens: 20
  - name: riddle
    prompt: "Riddle about: {{{{ summary }}}}"
    max_tokens: 30
examples: {{train: data/train.jsonl, test: data/test.jsonl}}
routes:
  remote:
    kind: service
    model: test-model
    base_url: {url}
    key_env: TEST_KEY
    prices: {{input: 1.0, output: 2.0}}
    max_retries: 2
    timeout_seconds: 5
  remote-shots:
    kind: service
    model: test-model
    base_url: {url}
    key_env: TEST_KEY
    prices: {{input: 1.0, output: 2.0}}
    shots: 2
metrics:
  - {{metric: rougeL, step: summary}}
  - {{metric: is_riddle, step: riddle}}
decide: {{by: summary.rougeL}}
"""


@pytest.fixture
def chat_answer() -> Callable[..., tuple[int, dict[str, str], Any]]:
    """Makes a good answer for ``chat_server``: chat_answer("text", finish="length")."""
    return ok


@pytest.fixture
def hinlap(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in a process of its own: hinlap("run", app, ..., TEST_KEY="sk").

    A variable given as None is not in its environment.
    """

    def run(*arguments: str | Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "TEST_KEY"} | variables
        return subprocess.run(
            [sys.executable, "-m", "hinlap.cli.main", *map(str, arguments)],
            cwd=tmp_path,
            env={k: v for k, v in environment.items() if v is not None},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def declared(tmp_path: Path) -> Callable[..., Path]:
    """Writes an app.yaml of one step and gives its folder: declared(("old", "new"), more="...")."""

    def write(*changes: tuple[str, str], more: str = "") -> Path:
        text = PLAIN_YAML
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        folder = tmp_path / "declared"
        folder.mkdir(exist_ok=True)
        (folder / "app.yaml").write_text(text + more, encoding="utf-8")
        return folder

    return write


PLAIN_YAML = """\
name: plain
inputs: [text]
steps:
  - name: summary
    prompt: "Sum up: {{ text }}"
routes:
  open: {kind: zero-shot}
"""


os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch: on tiny models threads only wait


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def hinlap_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """As ``hinlap``, in the process of the test: quicker, and an unforeseen error is raised."""
    from hinlap.cli.main import main

    def run(*arguments: str | Path, **variables: str) -> Ended:
        code = 0
        with monkeypatch.context() as patch:
            patch.delenv("TEST_KEY", raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["hinlap", *map(str, arguments)])
            try:
                main()
            except SystemExit as done:
                code = int(done.code or 0)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run
