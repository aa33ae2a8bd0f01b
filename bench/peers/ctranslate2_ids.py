"""CTranslate2 on token ids, greedy: MODEL JOB DTYPE FOLDER (the converted model, made once)."""

import json
import os
import sys
import time

import ctranslate2
from transformers import AutoTokenizer


def main(model, job, dtype, folder):
    with open(job, encoding="utf-8") as source:
        work = json.load(source)
    if not os.path.isdir(folder):
        ctranslate2.converters.TransformersConverter(model).convert(folder)
    words = AutoTokenizer.from_pretrained(model).convert_ids_to_tokens
    generator = ctranslate2.Generator(folder, compute_type=dtype, inter_threads=1, intra_threads=2)

    def run(prompts, new):
        done = generator.generate_batch(
            [words(prompt) for prompt in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in done]

    run([work["prompts"][0][:20]], 4)
    began = time.perf_counter()
    tokens = run(work["prompts"], work["new"])
    print(json.dumps({"seconds": time.perf_counter() - began, "tokens": tokens}))


main(*sys.argv[1:])
