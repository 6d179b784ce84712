"""Prefill and decode in PyTorch on the CPU. Argument: a plan in JSON, from pytorch.ts; last line: rates in JSON."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

plan = json.loads(sys.argv[1])
torch.set_num_threads(plan["threads"])
dtype = torch.bfloat16 if plan["weights"] == "bfloat16" else torch.float32
model = AutoModelForCausalLM.from_pretrained(plan["model"], dtype=dtype, attn_implementation="sdpa").eval()
if plan["weights"] == "int8":
    model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def read(tokens, seed):
    ids = torch.randint(1, 40000, (1, tokens), generator=torch.Generator().manual_seed(seed))
    start = time.perf_counter()
    output = model(ids, use_cache=True, logits_to_keep=1)
    return output, tokens / (time.perf_counter() - start)


rates = {"prefill": [], "decode": []}
with torch.inference_mode():
    read(64, 0)
    for run in range(plan["runs"]):
        output, rate = read(max(1, plan["tokens"]), run)
        rates["prefill"].append(rate)
        start = time.perf_counter()
        for _ in range(plan["steps"]):
            next_id = output.logits[:, -1:].argmax(-1)
            output = model(next_id, past_key_values=output.past_key_values, use_cache=True)
        if plan["steps"]:
            rates["decode"].append(plan["steps"] / (time.perf_counter() - start))
print(json.dumps(rates))
