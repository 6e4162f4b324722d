"""Memory at its peak while a checkpoint is loaded, against the size of its weights; Linux only.

python benchmarks/bench_loading.py [LAYERS]
    an AraGPT2 in float32 with 12 layers by default: 135 million weights, 540 MB

Each form of the same checkpoint is loaded in a process of its own, and then every weight is read
once, so that all are in memory. Two measures:
own    the peak of memory that is the process's own (RssAnon, looked at every millisecond): what
       has to be there
all    the peak of everything resident (VmHWM), with the pages of the checkpoint's file that are
       mapped in. The system takes those back when memory is short, and they cost nothing twice:
       another process that reads the file shares them
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMS = {"safetensors": 1, "safetensors in 4": 4, "bin": 1, "bin in 4": 4, "bin, before 2020": 1}

LOAD = """
import sys
import threading
import time

import torch
import transformers
from arabic_dialog.models.loading import load_model

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def memory():
    lines = [line for line in open("/proc/self/status") if line.startswith(("VmHWM", "RssAnon"))]
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}


def watch():
    global peak
    while not done:
        peak = max(peak, memory()["RssAnon"])
        time.sleep(0.001)


load_model(sys.argv[1], device="cpu")  # a tiny one: whatever is imported on the way is there now
before, peak, done = memory(), 0, False
watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
model = load_model(sys.argv[2], dtype=sys.argv[3], device="cpu")
for p in model.parameters():
    p.sum().item()
seconds = time.perf_counter() - start
done = True
watcher.join()
n = sum(p.numel() * p.element_size() for p in model.parameters())
own, resident = peak - before["RssAnon"], memory()["VmHWM"] - before["VmHWM"]
print(own / n, resident / n, seconds)
"""


def store(folder, weights, config, form, shards):
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    config.save_pretrained(folder)
    stem, suffix = ("model", "safetensors") if form.startswith("safe") else ("pytorch_model", "bin")
    keys, names = list(weights), {}
    for i in range(shards):
        part = {k: weights[k] for k in keys[i::shards]}
        name = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{i + 1:05}-of-{shards:05}.{suffix}"
        if suffix == "bin":
            torch.save(part, folder / name, _use_new_zipfile_serialization="before" not in form)
        else:
            save_file(part, folder / name, metadata={"format": "pt"})
        names |= dict.fromkeys(part, name)
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": names})
        )


def main(layers=12):
    from arabic_dialog.models.aragpt2 import AraGPT2Config, AraGPT2ForCausalLM

    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        tiny = AraGPT2ForCausalLM(
            AraGPT2Config(
                vocab_size=8,
                n_positions=8,
                n_embd=8,
                n_layer=1,
                n_head=1,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        tiny.save_pretrained(d / "tiny")
        model = AraGPT2ForCausalLM(
            AraGPT2Config(vocab_size=64000, n_layer=layers, bos_token_id=0, eos_token_id=0)
        )
        weights = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
        size = sum(v.nbytes for v in weights.values())
        print(
            f"AraGPT2, {model.num_parameters():,} weights, {size / 1e6:,.0f} MB in float32; "
            "peaks as multiples of the weights as they are loaded"
        )
        for form, shards in FORMS.items():
            store(
                folder := d / form.replace(" ", "_").replace(",", ""),
                weights,
                model.config,
                form,
                shards,
            )
            start = time.perf_counter()
            for f in folder.iterdir():
                f.read_bytes()
            read = time.perf_counter() - start
            for dtype in ("float32", "bfloat16"):
                own, all_, seconds = map(
                    float,
                    subprocess.run(
                        [sys.executable, "-c", LOAD, str(d / "tiny"), str(folder), dtype],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout.split(),
                )
                print(
                    f"  {form:17} as {dtype:9} own {own:5.2f} ×   all {all_:5.2f} ×   time "
                    f"{seconds / read:5.1f} × reading the file"
                )
            for f in folder.iterdir():
                f.unlink()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
