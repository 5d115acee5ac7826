"""Loading and saving of causal language models and their tokenizers: the one place that knows file formats.

Weights are safetensors only and remote code is never run. A GGUF file is converted once, into a folder that every
later step loads like any other.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tso.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# What to do about a cell's model that cannot chat.
NO_TEMPLATE = "use an instruction-tuned model, or name the cell's prompt_format, such as 'User: {prompt}\\nAssistant:'"

# What a model consists of, and no other weight format.
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


def device_for(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU."""
    import torch

    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()  # a device without memory, such as meta, has nothing to give back
    except (RuntimeError, AssertionError) as err:
        raise ConfigError(f"model.device={name!r} cannot be used here: {str(err).splitlines()[0]}") from err
    return device


def cores() -> int:
    """Physical cores that this process may use, by its affinity and its control group's quota."""
    import psutil

    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(logical, psutil.cpu_count(logical=False) or logical, _quota()))


def _quota(file: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Whole CPUs that a container is given; very many where nothing limits it."""
    try:
        most, period = Path(file).read_text(encoding="utf-8").split()
        return max(1, int(most) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 30


def sampling_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the device multiplies it natively, else float32 (emulation is slower than float32)."""
    import torch

    if name != "auto":
        named: torch.dtype = getattr(torch, name)
        return named
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native and _has_bf16_instructions() else torch.float32


def _has_bf16_instructions() -> bool:
    """x86 flags as Linux tells them; elsewhere False, which costs speed and nothing else."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def is_hub_name(name: str) -> bool:
    """Whether `name` is that of a model on a hub (MODEL or ORG/MODEL), and of no folder here."""
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)) and not Path(name).exists()


def is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def fetch(name: str, revision: str | None) -> Path:
    """The local folder of a hub model at one revision: every later load reads the same files, whatever the hub does.

    Raises ModelError when it can neither be fetched nor found in the cache.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except Exception as err:  # the hub's client raises a dozen classes; the user needs one line
        raise _cannot_load("model", name, err) from err


def find(name: str, revision: str | None = None) -> Path:
    """The local folder of a model: `name` itself where it is a folder, else what the hub has under it.

    Raises ModelError when there is none. What is spelt as a path is never asked of the hub.
    """
    local = Path(name)
    if local.is_dir():
        return local.resolve()
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"no such folder: {name}; give a model's folder, or its hub name such as ORG/MODEL")
    return fetch(name, revision)


_identities: dict[Path, str] = {}


def identity_of(folder: Path) -> str:
    """The sha256 of a folder's weights, which a process reads once for it."""
    place = folder.resolve()
    if place not in _identities:
        _identities[place] = weights_sha256(place)
    return _identities[place]


def inside(folder: Path, path: Path) -> str:
    """A model's folder as the store keeps it: relative where it is part of the run in `folder`."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def located(folder: Path, path: str, sha256: str) -> str:
    """A recorded model as a folder to load: `path` inside the run's `folder`, or by itself where it is absolute.

    Raises ModelError when it is gone, or when its weights are not those that were recorded: a run of two models would
    say so nowhere.
    """
    place = folder / path
    if not place.is_dir():
        raise ModelError(f"this run needs {place}, which is gone; put it back, or choose another run.output_dir")
    if identity_of(place) != sha256:
        raise ModelError(
            f"the weights in {place} have changed since this run recorded them; "
            "put the old ones back, or choose another run.output_dir"
        )
    return str(place)


def load_model(path: str, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal LM in `dtype` on `device`, in eval mode. Raises ModelError with what to check."""
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, trust_remote_code=False, use_safetensors=True)
    except Exception as err:  # transformers raises a dozen classes; the user needs one line
        raise _cannot_load("model", path, err) from err
    # transformers wraps `to`, which hides its signature; torch's is the same.
    cast("torch.nn.Module", model).to(device).eval()
    return model


def load_tokenizer(path: str, *, chat: bool = True) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; it must have an end-of-turn token and, for `chat`, a chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as err:
        raise _cannot_load("tokenizer", path, err) from err
    if chat and not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {path} has no chat template; use an instruction-tuned model")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {path} names no end-of-turn token (eos_token)")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _cannot_load(what: str, path: str, err: Exception) -> ModelError:
    why = next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
    return ModelError(
        f"cannot load the {what} {path!r}: {why[:300]} (check the model's name or folder, and HF_HOME when offline)"
    )


def convert_gguf(folder: str, gguf_file: str, target: Path, dtype: torch.dtype) -> None:
    """Write the model in `folder/gguf_file` to `target` as safetensors, complete or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_file, dtype=dtype)
    except Exception as err:
        raise _cannot_load("GGUF model", str(Path(folder) / gguf_file), err) from err
    # The loaded model is marked as quantised, which saving refuses, though its weights are plain by now.
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.generation_config = model.generation_config
    save(plain, tokenizer, target)


def save(model: Any, tokenizer: Any, target: Path, *, card: str | None = None) -> str:
    """Write model, tokenizer and model card to `target`; returns the sha256 of the weights.

    All is written beside the target and renamed into place, so the folder is complete or absent whatever happens.
    """
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    if card is not None:
        (part / "README.md").write_text(card, encoding="utf-8")
    sync_folder(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    _sync(target.parent)
    _identities.pop(target.resolve(), None)
    return identity_of(target)


def weights_sha256(folder: Path) -> str:
    """sha256 over the safetensors files of a folder, in name order."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no safetensors weights")
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Its files and their names survive a power cut."""
    for file in sorted(folder.iterdir()):
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and needs no sync of them
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def positions(path: str) -> int | None:
    """How many tokens the model at `path` can read; None where nothing bounds them."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as err:
        raise _cannot_load("model", path, err) from err
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def scale_of(model: PreTrainedModel) -> float:
    """Billions of parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters()) / 1e9
