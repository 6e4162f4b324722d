"Small checkpoints, in every form in which they are published, and token ids to try them with"

import json

import torch
from safetensors.torch import save_file

from arabic_dialog.models.loading import new_model


def make(path, architecture, tokenizer):
    "Save a small new model with its tokenizer"
    model = new_model(architecture, tokenizer, 2, 16, 2, 32, seed=0).eval()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model


def edit(path, change):
    "Change a JSON file in place"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def store(folder, weights, form, shards=1):
    "Replace a checkpoint's weights, as one file or as several with an index"
    for f in (*folder.glob("model*"), *folder.glob("pytorch_model*")):
        f.unlink()
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")

    def put(part, name):
        if form == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        elif form == "old bin":
            torch.save(part, folder / name, _use_new_zipfile_serialization=False)
        else:
            torch.save(part, folder / name)

    if shards == 1:
        return put(weights, f"{stem}.{suffix}")
    names = [f"{stem}-{i + 1:05}-of-{shards:05}.{suffix}" for i in range(shards)]
    keys = sorted(weights)
    for i, n in enumerate(names):
        put({k: weights[k] for k in keys[i::shards]}, n)
    (folder / f"{stem}.{suffix}.index.json").write_text(
        json.dumps(
            {
                "metadata": {},
                "weight_map": {k: n for i, n in enumerate(names) for k in keys[i::shards]},
            }
        )
    )


def ids_of(*shape, seed=1):
    return torch.randint(1, 60, shape, generator=torch.Generator().manual_seed(seed))
