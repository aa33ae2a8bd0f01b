"""llama.cpp on token ids, greedy, a shared beginning held once: its sequences share the cells.

MODEL.gguf JOB SHARED: the first SHARED tokens of all prompts are decoded once and copied by
reference to each sequence; then all go on together.
"""

import json
import sys
import time

import llama_cpp as lc
import numpy as np


def fill(batch, rows):
    """rows: (token, position, sequence, wants logits)"""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = wanted


def main(path, job, shared):
    with open(job, encoding="utf-8") as source:
        work = json.load(source)
    shared = int(shared)
    lc.llama_backend_init()
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    vocabulary = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    prompts, new = work["prompts"], work["new"]
    options = lc.llama_context_default_params()
    options.n_ctx = 256 * (
        1 + sum(len(p) - shared + new for p in prompts) // 256 + shared // 256 + 1
    )
    options.n_batch = options.n_ubatch = 2048
    options.n_seq_max = len(prompts) + 1
    options.n_threads = options.n_threads_batch = 2
    options.kv_unified = True
    context = lc.llama_init_from_model(model, options)
    memory = lc.llama_get_memory(context)
    batch = lc.llama_batch_init(2048, 0, 1)

    def decode(rows):
        for start in range(0, len(rows), 2048):
            fill(batch, rows[start : start + 2048])
            if lc.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")

    def best(index):
        logits = lc.llama_get_logits_ith(context, index)
        return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())

    def run(prompts, shared, new):
        lc.llama_memory_clear(memory, True)
        if shared:
            decode([(t, p, 0, False) for p, t in enumerate(prompts[0][:shared])])
            for sequence in range(1, len(prompts)):
                lc.llama_memory_seq_cp(memory, 0, sequence, 0, shared)
        rows, last = [], []
        for sequence, prompt in enumerate(prompts):
            for position in range(shared, len(prompt)):
                rows.append((prompt[position], position, sequence, position == len(prompt) - 1))
            last.append(len(rows) - 1)
        decode(rows)
        answers = [[best(index)] for index in last]
        for step in range(1, new):
            decode(
                [
                    (a[-1], len(p) + step - 1, s, True)
                    for s, (p, a) in enumerate(zip(prompts, answers, strict=True))
                ]
            )
            for sequence, answer in enumerate(answers):
                answer.append(best(sequence))
        return answers

    run([prompts[0][:20]], 0, 4)
    began = time.perf_counter()
    tokens = run(prompts, shared, new)
    print(json.dumps({"seconds": time.perf_counter() - began, "tokens": tokens}))


main(*sys.argv[1:])
