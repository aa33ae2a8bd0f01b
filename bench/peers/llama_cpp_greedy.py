"""llama.cpp on texts that it splits itself, greedy, until a token that ends: MODEL.gguf JOB.

The job: texts, as [text, whether its beginning and ending tokens are put around it]; new, the most
tokens of an answer; logits, whether those at every token of each text are given too. Keys and
values are float32, so that what differs is the arithmetic alone.
"""

import json
import sys
import time

import llama_cpp as lc
import numpy as np

LENGTH = 2048


def main(path, job):
    with open(job, encoding="utf-8") as source:
        work = json.load(source)
    lc.llama_backend_init()
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {path}")
    vocabulary = lc.llama_model_get_vocab(model)
    size = lc.llama_vocab_n_tokens(vocabulary)
    options = lc.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = LENGTH
    options.n_threads = options.n_threads_batch = 1  # more wait for each other on a busy machine
    options.type_k = options.type_v = lc.GGML_TYPE_F32
    options.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lc.llama_init_from_model(model, options)
    memory = lc.llama_get_memory(context)
    batch = lc.llama_batch_init(LENGTH, 0, 1)

    def split(text, special):
        raw = text.encode()
        ids = (lc.llama_token * (len(raw) + 8))()
        return list(
            ids[: lc.llama_tokenize(vocabulary, raw, len(raw), ids, len(ids), special, True)]
        )

    def decode(tokens, start):
        """(tokens, size) logits after each."""
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, True
        if lc.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        rows = [lc.llama_get_logits_ith(context, i) for i in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(row, (size,)) for row in rows])

    prompts, answers, logits = [], [], []
    began = time.perf_counter()
    for text, special in work["texts"]:
        lc.llama_memory_clear(memory, True)
        prompt, answer = split(text, special), []
        scores = decode(prompt, 0)
        prompts.append(prompt)
        if work["logits"]:
            logits.append(scores.tolist())
        while True:
            best = int(scores[-1].argmax())
            if lc.llama_vocab_is_eog(vocabulary, best):  # no part of the answer, as on our side
                break
            answer.append(best)
            if len(answer) == work["new"]:
                break
            scores = decode([best], len(prompt) + len(answer) - 1)
        answers.append(answer)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "prompts": prompts, "tokens": answers, "logits": logits}))


main(*sys.argv[1:])
